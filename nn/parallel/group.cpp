#include "nn/parallel/group.h"

#include <algorithm>

#include "nn/parallel/comm.h"

namespace halftone::nn::parallel {

Group::Sums Group::sum(std::size_t rank, const Tensor& x, double number, const char* what) {
  std::unique_lock lock(mutex_);
  const std::size_t call = calls_[rank]++;
  if (meetings_.size() <= call) meetings_.push_back(std::make_shared<Meeting>());
  const std::shared_ptr<Meeting> meeting = meetings_[call];
  meeting->brought.resize(devices_.size());
  meeting->edges.resize(devices_.size());
  meeting->brought[rank] = x.detach();
  if (context.record) meeting->edges[rank] = edge_of(x);
  meeting->number += number;
  if (!meeting->failure) compare(*meeting, rank, what);
  if (++meeting->arrived == devices_.size() && !meeting->failure) finish(*meeting);
  changed_.notify_all();

  // Who has gone and was here is no loss.
  const auto missing = [&](std::size_t k) { return gone_[k] && !meeting->brought[k].defined(); };
  std::size_t lost = devices_.size();
  changed_.wait(lock, [&] {
    for (lost = 0; lost < devices_.size() && !missing(lost);) ++lost;
    return !meeting->sums.empty() || meeting->failure || lost < devices_.size();
  });
  if (meeting->failure) std::rethrow_exception(meeting->failure);
  check<Abandoned>(!meeting->sums.empty(), what, ": waited for replica ", lost, " on ",
                   devices_[std::min(lost, devices_.size() - 1)],
                   ", which has ended without calling it; every replica must call it equally often");
  return {meeting->sums[rank], meeting->number};
}

// What the newcomer brings, with what is there.
void Group::compare(Meeting& meeting, std::size_t rank, const char* what) const {
  const Tensor& own = meeting.brought[rank];
  for (std::size_t k = 0; k < devices_.size(); ++k) {
    const Tensor& other = meeting.brought[k];
    if (!other.defined() || (own.sizes().equals(other.sizes()) && own.dtype() == other.dtype())) continue;
    meeting.failure = std::make_exception_ptr(
        ValueError(str(what, ": replica ", rank, " on ", devices_[rank], " brings ", describe(own), ", but replica ", k,
                       " on ", devices_[k], " brings ", describe(other), "; all must bring the same")));
    return;
  }
}

void Group::finish(Meeting& meeting) const {
  try {
    meeting.sums = comm::all_reduce(meeting.brought, std::move(meeting.edges));
  } catch (...) {
    meeting.failure = std::current_exception();
  }
}

void Group::leave(std::size_t rank) {
  {
    const std::lock_guard lock(mutex_);
    gone_[rank] = true;
  }
  changed_.notify_all();
}

}  // namespace halftone::nn::parallel
