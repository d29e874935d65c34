// The one error that a person sees: a line that says what, where, and what would be right.
#pragma once

#include <new>
#include <sstream>
#include <stdexcept>
#include <string>

namespace vlmp {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(text.str());
}

// What to tell of any exception.
inline std::string text_of(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr ? "memory ran out" : error.what();
}

}  // namespace vlmp
