#include "nn/parallel/nested.h"

#include <algorithm>

#include "autograd/ops.h"
#include "nn/module.h"

namespace halftone::nn::parallel::nested {

void Distribution::add(const Tensor& tensor, std::string place, bool whole) {
  found_.push_back({tensor, std::move(place), whole});
}

std::int64_t Distribution::length_of(const Found& found) const {
  const std::int64_t rank = found.tensor.dim();
  check<ValueError>(rank > 0 && dim_ >= -rank && dim_ < rank, "scatter: ", found.place, " is ", describe(found.tensor),
                    ", which has no dimension ", dim_,
                    " to be divided along; pass a number, or nn::parallel::broadcast(x) for what every replica is to "
                    "get whole");
  return found.tensor.size(dim_);
}

// The first that is divided; all agree with it.
const Distribution::Found* Distribution::check_lengths() const {
  const Found* first = nullptr;
  for (const Found& found : found_) {
    if (!is_divided(found)) continue;
    const std::int64_t length = length_of(found);
    if (!first) first = &found;
    check<ValueError>(length == length_of(*first), "scatter: ", found.place, " is ", describe(found.tensor), " with ",
                      length, " along dimension ", dim_, ", but ", first->place, " is ", describe(first->tensor),
                      " with ", length_of(*first),
                      "; wrap in nn::parallel::broadcast(x) what every replica is to get whole");
  }
  return first;
}

void Distribution::divide() {
  const Found* const model = check_lengths();
  std::vector<std::int64_t> lengths;
  if (model) lengths = share_lengths(length_of(*model), devices_.size(), split_);
  shares_ = model ? lengths.size() : devices_.size();
  const comm::Devices used = devices_.first(shares_);
  for (const Found& found : found_) {
    if (!found.tensor.defined()) {
      pieces_.emplace_back(shares_);
    } else if (found.whole) {
      pieces_.push_back(comm::broadcast(found.tensor, used));
    } else {
      const std::int64_t dim = dim_ < 0 ? dim_ + found.tensor.dim() : dim_;
      pieces_.push_back(comm::scatter(found.tensor, lengths, used, dim));
    }
  }
}

namespace {

void check_defined(const std::vector<const Tensor*>& parts, const Path& path) {
  for (std::size_t k = 1; k < parts.size(); ++k) {
    if (parts[k]->defined() != parts[0]->defined()) fail_presence(path, k);
  }
}

void check_fits(const Tensor& part, const Tensor& first, std::int64_t dim, std::size_t k, const Path& path) {
  bool fits = part.dim() == first.dim();
  for (std::int64_t i = 0; fits && i < part.dim(); ++i) fits = i == dim || part.size(i) == first.size(i);
  check<ValueError>(fits, "gather: ", path.text(), " of replica ", k, " is ", describe(part), ", of replica 0 ",
                    describe(first), ": they may differ in dimension ", dim, " only");
}

}  // namespace

Tensor join_tensors(const std::vector<const Tensor*>& parts, const Path& path, Joint& how) {
  check_defined(parts, path);
  const Tensor& first = *parts[0];
  if (!first.defined()) return {};
  const bool scalars = std::ranges::all_of(parts, [](const Tensor* t) { return t->dim() == 0; });
  check<ValueError>(first.dim() > 0 || (scalars && how.dim == 0), "gather: ", path.text(),
                    " has no dimensions, so it cannot be joined along dimension ", how.dim);
  if (scalars && how.warns_of_scalars) {
    warn("gather: " + path.text() + " has no dimensions in any replica; the result is a vector with one from each");
    how.warns_of_scalars = false;
  }
  const std::int64_t dim = scalars ? 0 : wrap_dim(how.dim, first.dim());
  std::vector<Tensor> tensors;
  for (std::size_t k = 0; k < parts.size(); ++k) {
    check_fits(*parts[k], first, dim, k, path);
    tensors.push_back(scalars ? parts[k]->reshape({1}) : *parts[k]);
  }
  return comm::gather(tensors, how.device, dim);
}

void fail_lengths(const Path& path, const char* what, std::size_t replica, std::size_t length, std::size_t first) {
  fail<ValueError>("gather: ", path.text(), " has ", length, ' ', what, " in replica ", replica, " but ", first,
                   " in replica 0; all must have equally many");
}

void fail_key(const Path& path, std::size_t replica) {
  fail<ValueError>("gather: ", path.text(), " of replica 0 is missing in replica ", replica);
}

void fail_presence(const Path& path, std::size_t replica) {
  fail<ValueError>("gather: ", path.text(), " is there in some replicas and not in others: replicas 0 and ", replica,
                   " differ");
}

void fail_difference(const Path& path, std::size_t replica, const std::type_info& type) {
  fail<ValueError>("gather: ", path.text(), ", a ", type_name(type), ", differs between replica 0 and replica ",
                   replica, "; only tensors are joined, everything else must be the same from all");
}

}  // namespace halftone::nn::parallel::nested
