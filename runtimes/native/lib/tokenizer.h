// BPE from a tokenizer.json, equal to the tokenizers library on the kinds that docs/bundle.md has.
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

class Field;

inline constexpr char32_t kLine = 0x2581;  // stands for a space in vocabularies of characters

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

  // Whether what comes next may change `text`, which is the decoded `ids`: bytes of its last character are to come.
  // Where tokens that are single bytes follow one another, each may yet make all of them broken characters.
  bool awaits_bytes(const std::vector<std::int32_t>& ids, std::string_view text) const;

  // Between which words there are no merges. `none`: the vocabulary is of characters, and a text is one word. The
  // others are of bytes: Qwen2's pattern; the same with digits by up to three; GPT-2's, with each digit apart.
  enum class Split { none, qwen2, llama3, gpt2 };

 private:
  class Meaning;
  struct Token {
    std::string bytes;
    bool special = false;
    bool is_byte = false;  // in a vocabulary of characters
  };
  struct Added {
    std::string text;
    std::int32_t id;
  };
  struct Merge {
    std::int32_t rank;
    std::int32_t id;
  };

  void read_settings(const Field& root);
  void encode_plain(std::string_view text, std::vector<std::int32_t>& ids) const;
  void encode_word(const std::string& bytes, std::vector<std::int32_t>& ids) const;
  std::vector<std::int32_t> characters(const std::u32string& points) const;
  void merge(const std::vector<std::int32_t>& single, std::vector<std::int32_t>& ids) const;
  static std::uint64_t key_of(std::int32_t left, std::int32_t right);
  const Merge* merge_of(std::int32_t left, std::int32_t right) const;
  const Added* added_at(std::string_view text) const;
  const Token* shown(std::int32_t id) const;  // null where it is left out of a text

  Split split_ = Split::none;
  bool compose_ = false;      // NFC
  bool strip_ = false;        // decoding drops a space at the beginning
  bool whole_words_ = false;  // a word of the vocabulary is one token, whatever merges say
  std::array<std::int32_t, 256> byte_ids_{};
  std::unordered_map<char32_t, std::int32_t> character_ids_;  // of vocabularies of characters
  std::unordered_map<std::string, std::int32_t> word_ids_;    // by their bytes; empty unless words are whole
  std::unordered_map<std::int32_t, Token> tokens_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::array<std::vector<Added>, 256> added_;  // by first byte, longest first
  std::vector<std::string> special_;
};

// The words [begin, end) that a text is split into, by any split but `none`; merges never cross them.
using Words = std::vector<std::pair<std::size_t, std::size_t>>;
Words split_words(const std::u32string& text, Tokenizer::Split split);
Words split_words_gpt2(const std::u32string& text);

}  // namespace vlmp
