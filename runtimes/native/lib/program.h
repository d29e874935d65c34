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
  // own choice, or an earlier program's, when there is none; traced: record the event of every operator. Throws Error
  // when the file is damaged or does not take and return what the manifest says, and when other programs are there
  // that have another number of threads.
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

// More are taken for a mistake.
inline constexpr int kMostThreads = 1024;

// Hears a line of ExecuTorch's log, of level D, I, E or F; F comes before ExecuTorch ends the process.
using LogListener = void (*)(void* user, char level, const char* message);

// There is one log for the process. It is quiet unless somebody listens; its errors become part of Error.
void set_log(LogListener listener, void* user);

}  // namespace vlmp
