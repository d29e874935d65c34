#include "tokenizer.h"

#include <algorithm>
#include <limits>
#include <queue>

#include "unicode.h"

namespace vlmp {
namespace {

const char* const kBroken = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

std::uint64_t Tokenizer::key_of(std::int32_t left, std::int32_t right) {
  return (static_cast<std::uint64_t>(left) << 32) | static_cast<std::uint32_t>(right);
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  std::size_t plain = 0;  // begin of what is not encoded yet
  for (std::size_t place = 0; place < text.size();) {
    const Added* added = added_at(text.substr(place));
    if (added == nullptr) {
      ++place;
      continue;
    }
    encode_plain(text.substr(plain, place - plain), ids);
    ids.push_back(added->id);
    place += added->text.size();
    plain = place;
  }
  encode_plain(text.substr(plain), ids);
  return ids;
}

std::vector<std::int32_t> Tokenizer::encode_as_text(std::string_view text) const {
  std::vector<std::int32_t> ids;
  encode_plain(text, ids);
  return ids;
}

std::optional<std::int32_t> Tokenizer::added_id(const std::string& text) const {
  for (const Added& added : added_[static_cast<unsigned char>(text[0])]) {
    if (added.text == text) return added.id;
  }
  return std::nullopt;
}

const Tokenizer::Token* Tokenizer::shown(std::int32_t id) const {
  const auto token = tokens_.find(id);
  return token == tokens_.end() || token->second.special ? nullptr : &token->second;
}

std::string Tokenizer::decode(const std::vector<std::int32_t>& ids) const {
  std::string text;
  std::string run;  // of tokens that are single bytes: characters as a whole, or all of them broken
  const auto end_run = [&] {
    for (std::size_t broken = is_utf8(run) ? 0 : run.size(); broken > 0; --broken) text += kBroken;
    if (is_utf8(run)) text += run;
    run.clear();
  };
  for (const std::int32_t id : ids) {
    const Token* token = shown(id);
    if (token == nullptr) continue;
    if (token->is_byte) {
      run += token->bytes;
    } else {
      end_run();
      text += token->bytes;
    }
  }
  end_run();
  if (strip_ && !text.empty() && text[0] == ' ') text.erase(0, 1);
  return split_ == Split::none ? text : to_valid_utf8(text);
}

bool Tokenizer::awaits_bytes(const std::vector<std::int32_t>& ids, std::string_view text) const {
  const std::string_view broken = kBroken;
  if (text.size() >= broken.size() && text.substr(text.size() - broken.size()) == broken) return true;
  const auto last = std::find_if(ids.rbegin(), ids.rend(), [&](std::int32_t id) { return shown(id) != nullptr; });
  return last != ids.rend() && shown(*last)->is_byte;
}

const Tokenizer::Added* Tokenizer::added_at(std::string_view text) const {
  for (const Added& added : added_[static_cast<unsigned char>(text[0])]) {
    if (text.substr(0, added.text.size()) == added.text) return &added;
  }
  return nullptr;
}

void Tokenizer::encode_plain(std::string_view text, std::vector<std::int32_t>& ids) const {
  if (text.empty()) return;
  std::u32string points = to_points(text);
  if (split_ == Split::none) return merge(characters(points), ids);
  if (compose_) points = compose(points);
  for (const auto& [begin, end] : split_words(points, split_)) {
    encode_word(to_utf8(std::u32string_view(points).substr(begin, end - begin)), ids);
  }
}

void Tokenizer::encode_word(const std::string& bytes, std::vector<std::int32_t>& ids) const {
  if (const auto whole = word_ids_.find(bytes); whole != word_ids_.end()) return ids.push_back(whole->second);
  std::vector<std::int32_t> single;
  single.reserve(bytes.size());
  for (const char byte : bytes) single.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
  merge(single, ids);
}

std::vector<std::int32_t> Tokenizer::characters(const std::u32string& points) const {
  std::vector<std::int32_t> single;
  single.reserve(points.size());
  for (const char32_t point : points) {
    const auto found = character_ids_.find(point == U' ' ? kLine : point);
    if (found != character_ids_.end()) {
      single.push_back(found->second);
      continue;
    }
    for (const char byte : to_utf8(std::u32string(1, point))) {
      single.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
    }
  }
  return single;
}

const Tokenizer::Merge* Tokenizer::merge_of(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(key_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Tokenizer::merge(const std::vector<std::int32_t>& single, std::vector<std::int32_t>& ids) const {
  struct Symbol {
    std::int32_t id;
    std::size_t before, after;  // neighbours, `none` where there is none
    bool alive;
  };
  struct Candidate {
    std::int32_t rank;
    std::size_t left;
    std::int32_t id;
    bool operator<(const Candidate& other) const {  // the lowest rank is on top, then the leftmost
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

  std::vector<Symbol> symbols;
  symbols.reserve(single.size());
  for (std::size_t place = 0; place < single.size(); ++place) {
    const std::size_t after = place + 1 == single.size() ? none : place + 1;
    symbols.push_back({single[place], place == 0 ? none : place - 1, after, true});
  }
  std::priority_queue<Candidate> candidates;
  const auto consider = [&](std::size_t left) {
    if (left == none || symbols[left].after == none) return;
    const Merge* merge = merge_of(symbols[left].id, symbols[symbols[left].after].id);
    if (merge != nullptr) candidates.push({merge->rank, left, merge->id});
  };
  for (std::size_t place = 0; place < symbols.size(); ++place) consider(place);
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.left];
    if (!left.alive || left.after == none) continue;
    Symbol& right = symbols[left.after];
    const Merge* merge = merge_of(left.id, right.id);
    if (merge == nullptr || merge->id != best.id) continue;  // a neighbour has been merged since
    left.id = best.id;
    left.after = right.after;
    right.alive = false;
    if (left.after != none) symbols[left.after].before = best.left;
    consider(left.before);
    consider(best.left);
  }
  for (const Symbol& symbol : symbols) {
    if (symbol.alive) ids.push_back(symbol.id);
  }
}

}  // namespace vlmp
