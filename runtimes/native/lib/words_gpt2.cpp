// Each digit alone, then GPT-2's pattern over what stands between them, matched by hand:
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// Its third alternative never has anything to match then.
#include "tokenizer.h"
#include "unicode.h"

namespace vlmp {
namespace {

enum class Kind { letter, digit, space, other, end };

Kind kind_of(char32_t point) {
  if (is_letter(point)) return Kind::letter;
  if (is_number(point) || is_other_number(point)) return Kind::digit;
  return is_space(point) ? Kind::space : Kind::other;
}

class Splitter {
 public:
  explicit Splitter(const std::u32string& text) : text_(text) {
    kinds_.reserve(text.size() + 1);
    for (const char32_t point : text) kinds_.push_back(kind_of(point));
    kinds_.push_back(Kind::end);
  }

  // End of the word that begins at `begin`.
  std::size_t word_end(std::size_t begin) const {
    if (kinds_[begin] == Kind::digit) return begin + 1;
    if (const std::size_t length = contraction(begin); length != 0) return begin + length;
    const std::size_t first = text_[begin] == U' ' ? begin + 1 : begin;
    const Kind kind = kinds_[first];
    if (kind == Kind::letter || kind == Kind::other) return run(first, kind);
    // White space: all of it but a last one that belongs to the next word, which no digit is.
    const std::size_t end = run(begin, Kind::space);
    const bool leaves_one = kinds_[end] == Kind::letter || kinds_[end] == Kind::other;
    return leaves_one && end > begin + 1 ? end - 1 : end;
  }

 private:
  // Length of an English contraction in small letters, or 0.
  std::size_t contraction(std::size_t begin) const {
    if (text_[begin] != U'\'' || begin + 1 == text_.size()) return 0;
    const char32_t first = text_[begin + 1];
    if (first == U's' || first == U't' || first == U'm' || first == U'd') return 2;
    if (begin + 2 == text_.size()) return 0;
    const char32_t second = text_[begin + 2];
    return ((first == U'r' || first == U'v') && second == U'e') || (first == U'l' && second == U'l') ? 3 : 0;
  }

  std::size_t run(std::size_t begin, Kind kind) const {
    while (kinds_[begin] == kind) ++begin;
    return begin;
  }

  const std::u32string& text_;
  std::vector<Kind> kinds_;  // and one for the end
};

}  // namespace

Words split_words_gpt2(const std::u32string& text) {
  const Splitter splitter(text);
  Words words;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = splitter.word_end(begin);
    words.emplace_back(begin, end);
    begin = end;
  }
  return words;
}

}  // namespace vlmp
