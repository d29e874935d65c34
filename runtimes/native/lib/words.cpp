// The pattern of Qwen2, matched by hand; that of Llama 3 and LFM2 has \p{N}{1,3} for \p{N}:
//
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// The first alternative that matches wins, as in a backtracking matcher; together they match every character.
#include "tokenizer.h"
#include "unicode.h"

namespace vlmp {
namespace {

enum class Kind { letter, number, space, newline, other };

Kind kind_of(char32_t point) {
  if (point == U'\r' || point == U'\n') return Kind::newline;
  if (point < 0x80) {
    if ((point | 0x20) >= U'a' && (point | 0x20) <= U'z') return Kind::letter;
    if (point >= U'0' && point <= U'9') return Kind::number;
  }
  if (is_space(point)) return Kind::space;
  if (is_letter(point)) return Kind::letter;
  return is_number(point) ? Kind::number : Kind::other;
}

char32_t folded(char32_t point) {
  if (point == 0x17F) return U's';  // the long s
  return point >= U'A' && point <= U'Z' ? point + 0x20 : point;
}

// Length of an English contraction at `begin`, or 0.
std::size_t contraction(const std::u32string& text, std::size_t begin) {
  if (text[begin] != U'\'' || begin + 1 == text.size()) return 0;
  const char32_t first = folded(text[begin + 1]);
  if (first == U's' || first == U't' || first == U'm' || first == U'd') return 2;
  if (begin + 2 == text.size()) return 0;
  const char32_t second = folded(text[begin + 2]);
  const bool two = (first == U'r' && second == U'e') || (first == U'v' && second == U'e') ||
                   (first == U'l' && second == U'l');
  return two ? 3 : 0;
}

class Splitter {
 public:
  Splitter(const std::u32string& text, std::size_t digits) : text_(text), digits_(digits) {
    kinds_.reserve(text.size());
    for (const char32_t point : text) kinds_.push_back(kind_of(point));
  }

  // End of the word that begins at `begin`.
  std::size_t word_end(std::size_t begin) const {
    if (const std::size_t length = contraction(text_, begin); length != 0) return begin + length;
    const Kind kind = kinds_[begin];
    if (kind == Kind::letter) return run(begin, Kind::letter);
    if (kind == Kind::number) return number_end(begin);
    if (kind != Kind::newline && at(begin + 1, Kind::letter)) return run(begin + 1, Kind::letter);
    if (kind == Kind::other) return run(run(begin, Kind::other), Kind::newline);
    if (text_[begin] == U' ' && at(begin + 1, Kind::other)) return run(run(begin + 1, Kind::other), Kind::newline);
    return blank_end(begin);
  }

 private:
  bool at(std::size_t place, Kind kind) const { return place < kinds_.size() && kinds_[place] == kind; }

  std::size_t run(std::size_t begin, Kind kind) const {
    while (at(begin, kind)) ++begin;
    return begin;
  }

  std::size_t number_end(std::size_t begin) const {
    std::size_t end = begin + 1;
    while (end < begin + digits_ && at(end, Kind::number)) ++end;
    return end;
  }

  // White space: up to its last newline; else all of it but a last one that belongs to the next word.
  std::size_t blank_end(std::size_t begin) const {
    std::size_t end = begin, newline = begin;
    for (; at(end, Kind::space) || at(end, Kind::newline); ++end) {
      if (kinds_[end] == Kind::newline) newline = end + 1;
    }
    if (newline > begin) return newline;
    return end == kinds_.size() || end == begin + 1 ? end : end - 1;
  }

  const std::u32string& text_;
  std::size_t digits_;  // the most of one word
  std::vector<Kind> kinds_;
};

}  // namespace

Words split_words(const std::u32string& text, Tokenizer::Split split) {
  if (split == Tokenizer::Split::gpt2) return split_words_gpt2(text);
  const Splitter splitter(text, split == Tokenizer::Split::llama3 ? 3 : 1);
  Words words;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = splitter.word_end(begin);
    words.emplace_back(begin, end);
    begin = end;
  }
  return words;
}

}  // namespace vlmp
