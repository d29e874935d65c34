// Byte-level BPE from a tokenizer.json, equal to the tokenizers library on the kind that Qwen2 has.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace vlmp {

class Tokenizer {
 public:
  // json: the text of tokenizer.json; where: its name in messages. Throws Error on a damaged file, and on any setting
  // that this class does not carry out: another model, normalizer or pattern. Padding and truncation, which transformers
  // leaves in files, are of no meaning to a prompt and are not looked at.
  static Tokenizer parse(std::string_view json, const std::string& where);

  // Ids of valid UTF-8, without the special tokens that a template would add.
  std::vector<std::int32_t> encode(std::string_view text) const;

  // The same without a look for added tokens: no part of the text is more than text.
  std::vector<std::int32_t> encode_as_text(std::string_view text) const;

  // Id of an added token, special or not.
  std::optional<std::int32_t> added_id(const std::string& text) const;

  const std::vector<std::string>& special_tokens() const { return special_; }

  // Valid UTF-8; special tokens and unknown ids are skipped, broken characters become U+FFFD.
  std::string decode(const std::vector<std::int32_t>& ids) const;

 private:
  struct Token {
    std::string bytes;
    bool special = false;
  };
  struct Added {
    std::string text;
    std::int32_t id;
  };
  struct Merge {
    std::int32_t rank;
    std::int32_t id;
  };

  void encode_plain(std::string_view text, std::vector<std::int32_t>& ids) const;
  void encode_word(std::string_view bytes, std::vector<std::int32_t>& ids) const;
  const Merge* merge_of(std::int32_t left, std::int32_t right) const;
  const Added* added_at(std::string_view text) const;

  bool compose_ = false;
  std::array<std::int32_t, 256> byte_ids_{};
  std::unordered_map<std::int32_t, Token> tokens_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::array<std::vector<Added>, 256> added_;  // by first byte, longest first
  std::vector<std::string> special_;
};

// The words [begin, end) that Qwen2's pattern splits a text into; merges never cross them.
std::vector<std::pair<std::size_t, std::size_t>> split_words(const std::u32string& text);

}  // namespace vlmp
