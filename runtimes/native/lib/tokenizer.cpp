#include "tokenizer.h"

#include <algorithm>
#include <limits>
#include <queue>

#include "error.h"
#include "json.h"
#include "unicode.h"

namespace vlmp {
namespace {

constexpr std::int64_t kMostTokens = 1 << 24;

const char* const kPattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
    "\\s+(?!\\S)|\\s+";

// The printable character that stands for a byte in the vocabulary: itself, or one from U+0100 on (GPT-2's table).
std::array<char32_t, 256> byte_characters() {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    characters[byte] = printable ? byte : next++;
  }
  return characters;
}

// What a token of the vocabulary stands for; one with a character that stands for no byte is taken as it is.
std::string bytes_of(const std::string& token, const std::unordered_map<char32_t, char>& bytes) {
  std::string text;
  for (const char32_t point : to_points(token)) {
    const auto found = bytes.find(point);
    if (found == bytes.end()) return token;
    text.push_back(found->second);
  }
  return text;
}

void require_absent(const Field& field, const char* name) {
  if (!field.has(name)) return;
  const Json& value = field.value().at(name);
  if (value == false || value == "") return;
  field.at(name).refuse("is " + shown(value) + ", this vlmp does not know it");
}

// Throws Error unless everything but the vocabulary is as Qwen2 has it. Returns whether text is composed (NFC).
bool check_settings(const Field& root) {
  const Field model = root.at("model");
  if (model.has("type")) model.at("type").require("BPE");
  for (const char* name : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
                           "ignore_merges"}) {
    require_absent(model, name);
  }
  const std::vector<Field> steps = [&] {
    root.at("pre_tokenizer").at("type").require("Sequence");
    return root.at("pre_tokenizer").at("pretokenizers").items();
  }();
  if (steps.size() != 2) root.at("pre_tokenizer").refuse("must be a split and a byte level step");
  steps[0].at("type").require("Split");
  steps[0].at("pattern").require(Json{{"Regex", kPattern}});
  steps[0].at("behavior").require("Isolated");
  steps[0].at("invert").require(false);
  steps[1].at("type").require("ByteLevel");
  steps[1].at("add_prefix_space").require(false);
  steps[1].at("use_regex").require(false);
  root.at("decoder").at("type").require("ByteLevel");
  if (!root.has("normalizer")) return false;
  root.at("normalizer").at("type").require("NFC");
  return true;
}

// The two parts of a merge, written as a list or, in older files, with a space between them.
std::pair<std::string, std::string> merge_parts(const Field& merge) {
  if (merge.value().is_string()) {
    const std::string text = merge.text();
    const std::size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      merge.refuse("must be two tokens with a space between them");
    }
    return {text.substr(0, space), text.substr(space + 1)};
  }
  const std::vector<Field> parts = merge.items();
  if (parts.size() != 2) merge.refuse("must be two tokens");
  return {parts[0].text(), parts[1].text()};
}

std::uint64_t key_of(std::int32_t left, std::int32_t right) {
  return (static_cast<std::uint64_t>(left) << 32) | static_cast<std::uint32_t>(right);
}

}  // namespace

Tokenizer Tokenizer::parse(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  const Field root(json, where);
  Tokenizer tokenizer;
  tokenizer.compose_ = check_settings(root);

  const std::array<char32_t, 256> characters = byte_characters();
  std::unordered_map<char32_t, char> bytes;
  for (unsigned byte = 0; byte < 256; ++byte) bytes[characters[byte]] = static_cast<char>(byte);

  const Field vocabulary = root.at("model").at("vocab");
  if (!vocabulary.value().is_object()) vocabulary.refuse("must be an object of token ids");
  std::unordered_map<std::string, std::int32_t> ids;
  for (const auto& [token, value] : vocabulary.value().items()) {
    const Field field(value, vocabulary.where() + "." + in_quotes(token));
    const auto id = static_cast<std::int32_t>(field.integer(0, kMostTokens));
    if (!tokenizer.tokens_.emplace(id, Token{bytes_of(token, bytes)}).second) field.refuse("another token has its id");
    ids.emplace(token, id);
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(to_utf8(std::u32string(1, characters[byte])));
    if (found == ids.end()) vocabulary.refuse("has no token for byte " + std::to_string(byte));
    tokenizer.byte_ids_[byte] = found->second;
  }

  const std::vector<Field> merges = root.at("model").at("merges").items();
  const auto id_of = [&](const std::string& token, const Field& merge) {
    const auto found = ids.find(token);
    if (found == ids.end()) merge.refuse("the vocabulary has no token " + in_quotes(token));
    return found->second;
  };
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto [left, right] = merge_parts(merges[rank]);
    const std::uint64_t key = key_of(id_of(left, merges[rank]), id_of(right, merges[rank]));
    tokenizer.merges_[key] = {static_cast<std::int32_t>(rank), id_of(left + right, merges[rank])};
  }

  for (const Field& entry : root.at("added_tokens").items()) {
    for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) require_absent(entry, flag);
    const std::string content = entry.at("content").text();
    const auto id = static_cast<std::int32_t>(entry.at("id").integer(0, kMostTokens));
    if (content.empty()) entry.at("content").refuse("is empty");
    const auto known = ids.find(content);
    if (known != ids.end() ? known->second != id : tokenizer.tokens_.count(id) != 0) {
      entry.at("id").refuse("is not the token's own");
    }
    ids.emplace(content, id);
    const bool special = entry.at("special").boolean();
    if (special) tokenizer.special_.push_back(content);
    tokenizer.tokens_[id] = {bytes_of(content, bytes), special};
    tokenizer.added_[static_cast<unsigned char>(content[0])].push_back({content, id});
  }
  for (std::vector<Added>& bucket : tokenizer.added_) {
    std::stable_sort(bucket.begin(), bucket.end(),
                     [](const Added& a, const Added& b) { return a.text.size() > b.text.size(); });
  }
  return tokenizer;
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

std::string Tokenizer::decode(const std::vector<std::int32_t>& ids) const {
  std::string bytes;
  for (const std::int32_t id : ids) {
    const auto token = tokens_.find(id);
    if (token != tokens_.end() && !token->second.special) bytes += token->second.bytes;
  }
  return to_valid_utf8(bytes);
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
  if (compose_) points = compose(points);
  for (const auto& [begin, end] : split_words(points)) {
    encode_word(to_utf8(std::u32string_view(points).substr(begin, end - begin)), ids);
  }
}

const Tokenizer::Merge* Tokenizer::merge_of(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(key_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Tokenizer::encode_word(std::string_view bytes, std::vector<std::int32_t>& ids) const {
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
  symbols.reserve(bytes.size());
  for (std::size_t place = 0; place < bytes.size(); ++place) {
    const std::int32_t id = byte_ids_[static_cast<unsigned char>(bytes[place])];
    symbols.push_back({id, place == 0 ? none : place - 1, place + 1 == bytes.size() ? none : place + 1, true});
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
