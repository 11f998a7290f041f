// Typed constants for options: kMean, kReflect, kSame. Each has a type of its own in enumtype::, so that an option is a
// std::variant of the legal ones and a wrong one does not compile.
#pragma once

#include <string_view>
#include <type_traits>
#include <variant>

namespace halftone {

// The constant k##name, of type enumtype::k##name.
#define HALFTONE_ENUM(name)                                           \
  namespace enumtype {                                                \
  struct k##name {                                                    \
    static constexpr std::string_view text = "k" #name;               \
    friend bool operator==(const k##name&, const k##name&) = default; \
  };                                                                  \
  }                                                                   \
  inline constexpr enumtype::k##name k##name {}

HALFTONE_ENUM(Linear);
HALFTONE_ENUM(Conv1D);
HALFTONE_ENUM(Conv2D);
HALFTONE_ENUM(Conv3D);
HALFTONE_ENUM(ConvTranspose1D);
HALFTONE_ENUM(ConvTranspose2D);
HALFTONE_ENUM(ConvTranspose3D);
HALFTONE_ENUM(Sigmoid);
HALFTONE_ENUM(Tanh);
HALFTONE_ENUM(ReLU);
HALFTONE_ENUM(GELU);
HALFTONE_ENUM(SiLU);
HALFTONE_ENUM(Mish);
HALFTONE_ENUM(LeakyReLU);
HALFTONE_ENUM(FanIn);
HALFTONE_ENUM(FanOut);
HALFTONE_ENUM(Constant);
HALFTONE_ENUM(Reflect);
HALFTONE_ENUM(Replicate);
HALFTONE_ENUM(Circular);
HALFTONE_ENUM(Nearest);
HALFTONE_ENUM(NearestExact);
HALFTONE_ENUM(Bilinear);
HALFTONE_ENUM(Bicubic);
HALFTONE_ENUM(Trilinear);
HALFTONE_ENUM(Area);
HALFTONE_ENUM(Sum);
HALFTONE_ENUM(Mean);
HALFTONE_ENUM(Max);
HALFTONE_ENUM(None);
HALFTONE_ENUM(BatchMean);
HALFTONE_ENUM(Zeros);
HALFTONE_ENUM(Border);
HALFTONE_ENUM(Reflection);
HALFTONE_ENUM(RNN_TANH);
HALFTONE_ENUM(RNN_RELU);
HALFTONE_ENUM(LSTM);
HALFTONE_ENUM(GRU);
HALFTONE_ENUM(Valid);
HALFTONE_ENUM(Same);
#undef HALFTONE_ENUM

namespace enumtype {

/// The name of the constant that a variant of them holds: "kMean".
template <class Variant> std::string_view get_enum_name(const Variant& variant) {
  return std::visit([](const auto& constant) { return std::decay_t<decltype(constant)>::text; }, variant);
}

}  // namespace enumtype
}  // namespace halftone
