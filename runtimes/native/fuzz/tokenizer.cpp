// Fuzz target: a tokenizer file is read and used, or refused in one line. What stands behind a zero byte is a text for
// it; when nothing does, the tokenizer of the last good file gets the whole input as text.
#include "tokenizer.h"

#include <cstdlib>
#include <optional>
#include <string_view>

#include "error.h"
#include "prompt.h"
#include "unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static std::optional<vlmp::Tokenizer> last;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = input.find('\0');
  const std::string text =
      vlmp::to_valid_utf8(zero == std::string_view::npos ? input : input.substr(zero + 1));
  try {
    last = vlmp::Tokenizer::parse(input.substr(0, zero), "tokenizer.json");
  } catch (const vlmp::Error&) {
  }
  if (last) {
    try {
      vlmp::encode_turn(*last, "a{prompt}b", text, last->special_tokens());
    } catch (const vlmp::Error&) {
    }
  }
  if (last && !vlmp::is_utf8(last->decode(last->encode(text)))) std::abort();
  return 0;
}
