// The one error that a person sees: a line that says what, where, and what would be right.
#pragma once

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

}  // namespace vlmp
