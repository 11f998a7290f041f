// What DataParallel copies to its replicas, and when: changes that it must see, and copies that it must not make.
#include "tests/cuda.h"
#include "tests/parallel_nets.h"

using namespace halftone;
using namespace halftone::nn;
using namespace halftone::test;
using Catch::Matchers::ContainsSubstring;
using test::close;

TEST_CASE("a copy of a model with a DataParallel in it has its weights, mode and hooks", "[parallel][module]") {
  struct OuterImpl : Cloneable<OuterImpl> {
    OuterImpl() { reset(); }
    void reset() override { inner = register_module("inner", DataParallel(TwoLayers(), devices(2))); }
    Tensor forward(const Tensor& x) { return inner->forward(x); }
    std::shared_ptr<DataParallelImpl<TwoLayersImpl>> inner;
  };
  OuterImpl net;
  net.inner->module->first->eval();
  int calls = 0;
  net.inner->register_forward_hook([&](Module&, const std::vector<Tensor>&, const Tensor&) { ++calls; });
  const auto copy = std::dynamic_pointer_cast<OuterImpl>(net.clone());
  const Tensor x = randn({4, 4});
  CHECK(close(copy->forward(x), net.forward(x)));
  CHECK_FALSE(copy->inner->module->first->is_training());
  CHECK(copy->inner->has_hooks());
  CHECK(copy->inner->module->first->path() == "inner.module.first");
  CHECK_FALSE(copy->inner->module->first->weight.is_alias_of(net.inner->module->first->weight));
  {
    const NoGradGuard no_grad;
    copy->inner->module->first->weight.zero_();
  }
  CHECK_FALSE(close(copy->forward(x), net.forward(x)));
  const auto alone = std::dynamic_pointer_cast<DataParallelImpl<TwoLayersImpl>>(net.inner->clone());
  CHECK(close(alone->forward(x), net.forward(x)));
  CHECK(alone->devices() == net.inner->devices());
}

TEST_CASE("a member that cannot be copied is an error, not a member with other weights", "[module][errors]") {
  struct PlainImpl : Module {
    PlainImpl() { weight = register_parameter("weight", randn({2})); }
    Tensor weight;
  };
  struct OuterImpl : Cloneable<OuterImpl> {
    OuterImpl() { reset(); }
    void reset() override { plain = register_module("plain", std::make_shared<PlainImpl>()); }
    std::shared_ptr<PlainImpl> plain;
  };
  CHECK_THROWS_WITH(OuterImpl().clone(),
                    ContainsSubstring("'plain' has parameters or buffers and no way to be copied; derive"));
}
