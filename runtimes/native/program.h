// A bundle's program on ExecuTorch: the only file that knows its API.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "manifest.h"

namespace vlmp {

// Name -> data of the shape and dtype that the manifest says. Not owned.
using Inputs = std::unordered_map<std::string, const void*>;

// What a method returned. The data stay until the next run of any method.
class Outputs {
 public:
  const float* floats(const std::string& name) const { return static_cast<const float*>(data_.at(name)); }
  const std::int32_t* integers(const std::string& name) const {
    return static_cast<const std::int32_t*>(data_.at(name));
  }
  void add(const std::string& name, const void* data) { data_[name] = data; }

 private:
  std::unordered_map<std::string, const void*> data_;
};

class Program {
 public:
  // Loads all four methods of the manifest, which must outlive the program. threads: of the whole process, ExecuTorch's
  // own choice when there is none; traced: record the event of every operator. Throws Error when the file is damaged or
  // does not take and return what the manifest says.
  Program(const std::filesystem::path& bundle, const Manifest& manifest, std::optional<int> threads, bool traced);
  ~Program();

  // Throws Error when ExecuTorch fails.
  Outputs run(MethodName method, const Inputs& inputs);

  // All events since loading, as an ETDump file. Can be asked once. Throws Error when nothing was traced.
  std::string events();

 private:
  struct Loaded;
  std::unique_ptr<Loaded> loaded_;
};

// Name and version of what runs the graphs.
std::string runtime_name();

// From now on ExecuTorch's own log stays quiet, its errors become part of Error, and what makes it end the process ends
// as one line on stderr. subject: begin of that line. Call once.
void quiet_runtime(const std::string& subject);

}  // namespace vlmp
