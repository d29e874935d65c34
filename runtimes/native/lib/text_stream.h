// The text of an answer as it comes: no character of which bytes are still to come.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer.h"

namespace vlmp {

class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // What is new with all tokens so far, empty where nothing is. Once the answer has ended, nothing is held back.
  std::string next(const std::vector<std::int32_t>& tokens, bool ended) {
    const std::string text = tokenizer_.decode(tokens);
    if (text.size() <= shown_ || (!ended && tokenizer_.awaits_bytes(tokens, text))) return "";
    const std::string more = text.substr(shown_);
    shown_ = text.size();
    return more;
  }

 private:
  const Tokenizer& tokenizer_;
  std::size_t shown_ = 0;  // bytes
};

}  // namespace vlmp
