// UTF-8 and the few properties of code points that a tokenizer asks for, as the tokenizers library knows them.
#pragma once

#include <string>
#include <string_view>

namespace vlmp {

// Whether `text` is valid UTF-8: no surrogates, nothing overlong.
bool is_utf8(std::string_view text);

// The code points of valid UTF-8.
std::u32string to_points(std::string_view utf8);

std::string to_utf8(std::u32string_view points);

// `bytes` as valid UTF-8: each longest beginning of a character that is not completed becomes one U+FFFD.
std::string to_valid_utf8(std::string_view bytes);

bool is_letter(char32_t point);  // \p{L}
bool is_number(char32_t point);  // \p{N}
bool is_space(char32_t point);   // \s

// Digits to the library's `Digits` step beyond \p{N}: it knows a newer Unicode than its patterns.
bool is_other_number(char32_t point);

// `text` as it can stand in a message: in quotes, cut after 80 bytes, control characters and broken UTF-8 as '?'.
std::string in_quotes(const std::string& text);

// Canonical composition (NFC).
std::u32string compose(const std::u32string& points);

}  // namespace vlmp
