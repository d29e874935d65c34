// The one error that a person sees: a line that says what, where, and what would be right.
#pragma once

#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace vlmp {

// What is at fault, for callers that do not read the line.
enum class Fault {
  bundle,        // the files of the model
  image,         // the photo
  prompt,        // the words, or how the answer to them is asked for
  conversation,  // there is none yet, or it is full
  runtime,       // ExecuTorch, or what the model computed
  memory,        // there was not enough
  argument,      // a value that a call cannot take
  handle,        // nothing is open under it
  busy,          // a callback called what calls it
};

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& text, Fault at_fault = Fault::bundle) : std::runtime_error(text), fault(at_fault) {}

  Fault fault;
};

template <typename... Parts>
[[noreturn]] void refuse(Fault fault, const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(text.str(), fault);
}

// Readers of files do not say what is at fault: of a bundle's files the bundle is, and `blame` says where it is not.
template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  refuse(Fault::bundle, parts...);
}

// What `work` returns. Throws what it throws; an Error that blames the bundle blames `fault` then.
template <typename Work>
auto blame(Fault fault, const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.fault != Fault::bundle) throw;
    throw Error(error.what(), fault);
  }
}

// What to tell of any exception.
inline std::string text_of(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr ? "memory ran out" : error.what();
}

// Control characters become spaces.
inline std::string one_line(std::string_view text) {
  std::string line(text);
  for (char& byte : line) {
    if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7F) byte = ' ';
  }
  return line;
}

}  // namespace vlmp
