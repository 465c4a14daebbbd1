// torch's c10d (stores and process groups) behind C functions, for src/lib.rs, which documents them.
//
// Every function that can fail takes `error`: where an exception is caught, its text is put there, to be freed with free(),
// and the result is null or 0. No exception leaves this file.

#include <c10/util/Logging.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
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

void tap_c10d_group_close(TapGroup* group) {
  delete group;
}

} // extern "C"
