// CUDA's short vectors, with CUDA's alignment: a load of a float4 needs an address that is a multiple of 16.
#pragma once

#define CUDASIM_VECTORS(name, type, align1, align2, align4)                                 \
  struct alignas(align1) name##1 {                                                          \
    type x;                                                                                 \
  };                                                                                        \
  struct alignas(align2) name##2 {                                                          \
    type x, y;                                                                              \
  };                                                                                        \
  struct alignas(align1) name##3 {                                                          \
    type x, y, z;                                                                           \
  };                                                                                        \
  struct alignas(align4) name##4 {                                                          \
    type x, y, z, w;                                                                        \
  };                                                                                        \
  constexpr name##1 make_##name##1(type x) { return {x}; }                                  \
  constexpr name##2 make_##name##2(type x, type y) { return {x, y}; }                       \
  constexpr name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }            \
  constexpr name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; } \
  static_assert(sizeof(name##3) == 3 * sizeof(type))

CUDASIM_VECTORS(char, signed char, 1, 2, 4);
CUDASIM_VECTORS(uchar, unsigned char, 1, 2, 4);
CUDASIM_VECTORS(short, short, 2, 4, 8);
CUDASIM_VECTORS(ushort, unsigned short, 2, 4, 8);
CUDASIM_VECTORS(int, int, 4, 8, 16);
CUDASIM_VECTORS(uint, unsigned, 4, 8, 16);
CUDASIM_VECTORS(long, long, 8, 16, 16);
CUDASIM_VECTORS(ulong, unsigned long, 8, 16, 16);
CUDASIM_VECTORS(longlong, long long, 8, 16, 16);
CUDASIM_VECTORS(ulonglong, unsigned long long, 8, 16, 16);
CUDASIM_VECTORS(float, float, 4, 8, 16);
CUDASIM_VECTORS(double, double, 8, 16, 16);

#undef CUDASIM_VECTORS

struct dim3 {
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
  unsigned x, y, z;
};
