// The words of a turn become token ids. What a user types is text, whatever it looks like. As runtimes/prompt.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer.h"

namespace vlmp {

// Token ids of a form with the user's words in it, of which those in `control` are encoded as text. Throws Error when
// the tokenizer makes a control token of plain text.
std::vector<std::int32_t> encode_turn(const Tokenizer& tokenizer, const std::string& form, const std::string& prompt,
                                      const std::vector<std::string>& control = {});

}  // namespace vlmp
