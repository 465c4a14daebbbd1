// The few names of gloo that torch's ProcessGroupGloo.hpp mentions, so that it compiles without gloo's own headers.
//
// Gloo itself is inside libtorch_cpu; its headers are not part of what PyTorch ships. Nothing declared here is constructed,
// called or destroyed by this crate's code: objects of these types are made, used and freed by libtorch, and cross the
// shim only inside of a std::shared_ptr, whose layout does not depend on what it points to.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace rendezvous {

class Store {
 public:
  virtual ~Store();
  virtual void set(const std::string& key, const std::vector<char>& value) = 0;
  virtual std::vector<char> get(const std::string& key) = 0;
  virtual void wait(const std::vector<std::string>& keys) = 0;
  virtual void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) = 0;
};

} // namespace rendezvous

namespace transport {

class Device;

class UnboundBuffer {
 public:
  virtual ~UnboundBuffer();
};

} // namespace transport
} // namespace gloo
