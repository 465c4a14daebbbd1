// torch's c10d (stores and process groups) behind C functions, for src/lib.rs, which documents them.
//
// Every function that can fail takes `error`: where an exception is caught, its text is put there, to be freed with free(),
// and the result is null or 0. No exception leaves this file.

#include <c10/util/Logging.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

struct TapStore {
  c10::intrusive_ptr<c10d::Store> store;
};

struct TapGroup {
  c10::intrusive_ptr<c10d::Backend> backend;
};

// Calls `body`; of an exception the text is left in `error`.
template <class Body>
auto guarded(char** error, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const c10::Error& caught) {
    // Without the stack of C++ functions that what() adds.
    *error = strdup(caught.what_without_backtrace());
  } catch (const std::exception& caught) {
    *error = strdup(caught.what());
  } catch (...) {
    *error = strdup("an exception that is none of the standard library's");
  }
  return {};
}

// c10d logs what it then throws too, and each attempt to connect. What it throws is enough, unless the user asks for more by
// torch's own variable.
void set_log_level() {
  if (std::getenv("TORCH_CPP_LOG_LEVEL") != nullptr) {
    c10::initLogging();
  } else {
    FLAGS_caffe2_log_level = c10::GLOG_FATAL;
  }
}

// Waits for all, so that none is at work on a tensor that the caller frees, and then throws what the first threw.
void wait_for_all(const std::vector<c10::intrusive_ptr<c10d::Work>>& works) {
  std::exception_ptr first;
  for (const auto& work : works) {
    try {
      work->wait();
    } catch (...) {
      if (!first) {
        first = std::current_exception();
      }
    }
  }
  if (first) {
    std::rethrow_exception(first);
  }
}

// Starts `start` on each tensor and waits for all.
template <class Start>
bool on_each(at::Tensor* const* tensors, size_t count, Start start) {
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  std::exception_ptr failed;
  for (size_t place = 0; place < count && !failed; ++place) {
    std::vector<at::Tensor> one{*tensors[place]};
    try {
      works.push_back(start(one));
    } catch (...) {
      failed = std::current_exception();
    }
  }
  wait_for_all(works);
  if (failed) {
    std::rethrow_exception(failed);
  }
  return true;
}

// The sum over all ranks, in memory of its own; gloo takes dense tensors of a CPU.
at::Tensor summed(c10d::Backend& backend, const at::Tensor& tensor) {
  const at::Tensor on_cpu = tensor.detach().to(at::kCPU);
  std::vector<at::Tensor> sum{on_cpu.clone(at::MemoryFormat::Contiguous)};
  backend.allreduce(sum)->wait();
  return sum[0].to(tensor.device());
}

// The gradient of a sum over all ranks by what each of them adds to it: the sum of the gradients that the ranks have.
struct SumBackward : torch::autograd::Node {
  c10::intrusive_ptr<c10d::Backend> backend;

  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    const at::NoGradGuard no_grad;
    // A rank whose loss does not depend on the sum takes part all the same: the others wait for it.
    return {summed(*backend, gradients[0].defined() ? gradients[0] : input_metadata(0).zeros_like())};
  }
};

// The all-reduces of the buckets of a backward pass.
using Buckets = std::vector<c10::intrusive_ptr<c10::ivalue::Future>>;

// Sums a bucket over all ranks. Without a hook c10d divides each gradient by the number of ranks before it sums, which rounds
// where that number is no power of two; with one it leaves gradients as they are.
struct SumBucket : c10d::CommHookInterface {
  c10::intrusive_ptr<c10d::Backend> backend;
  std::shared_ptr<Buckets> buckets;

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    std::vector<at::Tensor> gradients{bucket.getBufferRef()};
    buckets->push_back(backend->allreduce(gradients)->getFuture());
    return buckets->back();
  }

  at::Tensor parseHookResult(const c10::IValue& result) override {
    return c10d::detail::parseCppCommHookResult(result);
  }
};

struct TapReducer {
  std::vector<at::Tensor> parameters;
  std::shared_ptr<Buckets> buckets;
  size_t num_buckets;
  std::unique_ptr<c10d::Reducer> reducer;

  // Whether a backward pass that failed did so since ranks lost each other: at a bucket, or, where all buckets are on their
  // way and no gradient is missing any more, at what c10d sums after them.
  bool has_lost_ranks() const {
    for (const auto& bucket : *buckets) {
      if (bucket->completed() && bucket->hasError()) {
        return true;
      }
    }
    return buckets->size() == num_buckets;
  }
};

} // namespace

extern "C" {

TapStore* tap_c10d_store_open(const char* host, uint16_t port, bool is_server, int64_t timeout_ms, char** error) {
  return guarded(error, [&]() -> TapStore* {
    set_log_level();
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = is_server;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    return new TapStore{c10::make_intrusive<c10d::TCPStore>(std::string(host), options)};
  });
}

bool tap_c10d_store_set(TapStore* store, const char* key, const uint8_t* value, size_t length, char** error) {
  return guarded(error, [&]() -> bool {
    store->store->set(key, std::vector<uint8_t>(value, value + length));
    // set() does not wait for the server, which answers a connection's requests in order.
    return store->store->check({std::string(key)});
  });
}

// The value in memory to be freed with free(), and its length; null where there is none, without waiting for one.
uint8_t* tap_c10d_store_get(TapStore* store, const char* key, size_t* length, char** error) {
  return guarded(error, [&]() -> uint8_t* {
    if (!store->store->check({std::string(key)})) {
      return nullptr;
    }
    const std::vector<uint8_t> value = store->store->get(key);
    auto* copy = static_cast<uint8_t*>(std::malloc(value.size() + 1));
    if (copy == nullptr) {
      throw std::bad_alloc();
    }
    if (!value.empty()) {
      std::memcpy(copy, value.data(), value.size());
    }
    *length = value.size();
    return copy;
  });
}

void tap_c10d_store_close(TapStore* store) {
  delete store;
}

TapGroup* tap_c10d_gloo_open(
    TapStore* store,
    const char* prefix,
    const char* interface,
    const char* address,
    int rank,
    int world_size,
    int64_t timeout_ms,
    char** error) {
  return guarded(error, [&]() -> TapGroup* {
    auto own = c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), store->store);
    auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::milliseconds(timeout_ms));
    options->devices.push_back(
        *interface != '\0' ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                           : c10d::ProcessGroupGloo::createDeviceForHostname(address));
    return new TapGroup{c10::make_intrusive<c10d::ProcessGroupGloo>(own, rank, world_size, options)};
  });
}

bool tap_c10d_all_reduce_sum(TapGroup* group, at::Tensor* const* tensors, size_t count, char** error) {
  return guarded(error, [&]() -> bool {
    return on_each(tensors, count, [&](std::vector<at::Tensor>& tensor) { return group->backend->allreduce(tensor); });
  });
}

// A new tensor, through which gradients flow.
at::Tensor* tap_c10d_sum_with_gradient(TapGroup* group, at::Tensor* tensor, char** error) {
  return guarded(error, [&]() -> at::Tensor* {
    at::Tensor sum = summed(*group->backend, *tensor);
    if (torch::autograd::compute_requires_grad(*tensor)) {
      const std::shared_ptr<SumBackward> node(new SumBackward(), torch::autograd::deleteNode);
      node->backend = group->backend;
      node->set_next_edges(torch::autograd::collect_next_edges(*tensor));
      torch::autograd::set_history(sum, node);
    }
    return new at::Tensor(sum);
  });
}

bool tap_c10d_broadcast(TapGroup* group, at::Tensor* const* tensors, size_t count, int root, char** error) {
  return guarded(error, [&]() -> bool {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return on_each(
        tensors, count, [&](std::vector<at::Tensor>& tensor) { return group->backend->broadcast(tensor, options); });
  });
}

bool tap_c10d_all_gather(TapGroup* group, at::Tensor* input, at::Tensor* const* outputs, size_t count, char** error) {
  return guarded(error, [&]() -> bool {
    std::vector<at::Tensor> inputs{*input};
    std::vector<std::vector<at::Tensor>> gathered(1);
    for (size_t rank = 0; rank < count; ++rank) {
      gathered[0].push_back(*outputs[rank]);
    }
    wait_for_all({group->backend->allgather(gathered, inputs)});
    return true;
  });
}

// The parameters in the order in which their gradients are expected; each requires one.
TapReducer* tap_c10d_reducer_new(
    TapGroup* group,
    at::Tensor* const* parameters,
    size_t count,
    size_t first_bucket_bytes,
    size_t bucket_bytes,
    char** error) {
  return guarded(error, [&]() -> TapReducer* {
    auto own = std::make_unique<TapReducer>();
    for (size_t place = 0; place < count; ++place) {
      own->parameters.push_back(*parameters[place]);
    }
    auto buckets = std::get<0>(
        c10d::compute_bucket_assignment_by_size(own->parameters, {first_bucket_bytes, bucket_bytes}));
    own->buckets = std::make_shared<Buckets>();
    own->num_buckets = buckets.size();
    const auto& backend = group->backend;
    auto wrapped = c10::make_intrusive<c10d::ProcessGroup>(backend->getRank(), backend->getSize());
    wrapped->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, backend);
    wrapped->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
    own->reducer = std::make_unique<c10d::Reducer>(
        own->parameters,
        std::move(buckets),
        wrapped,
        std::vector<bool>(count, false),
        static_cast<int64_t>(bucket_bytes),
        /*find_unused_parameters=*/true,
        /*gradient_as_bucket_view=*/true,
        std::unordered_map<size_t, std::string>(),
        static_cast<int64_t>(first_bucket_bytes),
        /*skip_all_reduce_unused_params=*/false,
        /*use_python_reducer=*/false,
        std::vector<int64_t>());
    auto hook = std::make_unique<SumBucket>();
    hook->backend = backend;
    hook->buckets = own->buckets;
    own->reducer->register_comm_hook(std::move(hook));
    return own.release();
  });
}

// Accumulates gradients in the parameters; where `is_last`, what is accumulated is summed over all ranks, and all is there
// when this returns. Of a failure it says whether it is that of another rank.
bool tap_c10d_reducer_backward(TapReducer* reducer, at::Tensor* loss, bool is_last, bool* has_lost_ranks, char** error) {
  return guarded(error, [&]() -> bool {
    reducer->buckets->clear();
    if (is_last) {
      reducer->reducer->prepare_for_backward({*loss});
    }
    try {
      torch::autograd::backward({*loss});
    } catch (...) {
      *has_lost_ranks = is_last && reducer->has_lost_ranks();
      throw;
    }
    return true;
  });
}

// Moves the gradients out of the parameters, in their order: new tensors, undefined where a parameter has none. They are
// overwritten by the next backward pass.
bool tap_c10d_reducer_take(TapReducer* reducer, at::Tensor** gradients, char** error) {
  return guarded(error, [&]() -> bool {
    for (size_t place = 0; place < reducer->parameters.size(); ++place) {
      at::Tensor& gradient = reducer->parameters[place].mutable_grad();
      gradients[place] = new at::Tensor(gradient);
      gradient.reset();
    }
    return true;
  });
}

void tap_c10d_reducer_close(TapReducer* reducer) {
  // The destructor of c10d's may throw, which no smart pointer allows.
  const c10d::Reducer* inner = reducer->reducer.release();
  try {
    delete inner;
  } catch (...) {
    // Its hooks stay with parameters that nobody computes with any more.
  }
  delete reducer;
}

void tap_c10d_group_close(TapGroup* group) {
  delete group;
}

} // extern "C"
