// What a tokenizer.json must be to be carried out, and what is kept of it.
#include <algorithm>

#include "error.h"
#include "json.h"
#include "tokenizer.h"
#include "unicode.h"

namespace vlmp {
namespace {

constexpr std::int64_t kMostTokens = 1 << 24;

// The one pattern of Qwen2 and Llama 3, with digits one by one or by up to three.
std::string pattern_of(const std::string& digits) {
  return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" + digits +
         "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
}

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

// The token that stands for a byte where the vocabulary is of characters: <0xE2>.
std::string byte_token(unsigned byte) {
  const char* const digits = "0123456789ABCDEF";
  return {'<', '0', 'x', digits[byte / 16], digits[byte % 16], '>'};
}

// The byte that a token stands for in that way, in either case.
std::optional<char> byte_of(const std::string& token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token.back() != '>') return std::nullopt;
  const std::string digits = token.substr(3, 2);
  if (digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) return std::nullopt;
  return static_cast<char>(std::stoi(digits, nullptr, 16));
}

void require_absent(const Field& field, const char* name) {
  if (!field.has(name)) return;
  const Json& value = field.value().at(name);
  if (value == false || value == "") return;
  field.at(name).refuse("is " + shown(value) + ", this vlmp does not know it");
}

Tokenizer::Split read_split(const Field& field) {
  field.at("type").require("Sequence");
  const std::vector<Field> steps = field.at("pretokenizers").items();
  if (steps.size() != 2) field.refuse("must be a split and a byte level step");
  const bool by_digits = steps[0].at("type").value() == "Digits";
  steps[1].at("type").require("ByteLevel");
  steps[1].at("add_prefix_space").require(false);
  steps[1].at("use_regex").require(by_digits);
  if (by_digits) {
    steps[0].at("individual_digits").require(true);
    return Tokenizer::Split::gpt2;
  }
  steps[0].at("type").require("Split");
  steps[0].at("behavior").require("Isolated");
  steps[0].at("invert").require(false);
  const Field pattern = steps[0].at("pattern");
  if (pattern.value() == Json{{"Regex", pattern_of("\\p{N}{1,3}")}}) return Tokenizer::Split::llama3;
  pattern.require(Json{{"Regex", pattern_of("\\p{N}")}});
  return Tokenizer::Split::qwen2;
}

// Of tokenizers whose vocabulary is of characters. Returns whether decoding drops a space at the beginning.
bool check_characters(const Field& root) {
  const Json line = "\u2581", space = " ";
  if (root.has("pre_tokenizer")) root.at("pre_tokenizer").refuse("must be null where there are tokens for bytes");
  root.at("normalizer").require({{"type", "Replace"}, {"pattern", {{"String", space}}}, {"content", line}});
  const Field decoder = root.at("decoder");
  decoder.at("type").require("Sequence");
  const std::vector<Field> steps = decoder.at("decoders").items();
  if (steps.size() != 3 && steps.size() != 4) decoder.refuse("must have three or four steps");
  steps[0].require({{"type", "Replace"}, {"pattern", {{"String", line}}}, {"content", space}});
  steps[1].at("type").require("ByteFallback");
  steps[2].at("type").require("Fuse");
  if (steps.size() == 3) return false;
  steps[3].require({{"type", "Strip"}, {"content", space}, {"start", 1}, {"stop", 0}});
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

}  // namespace

// What tokens stand for, by the kind of the vocabulary.
class Tokenizer::Meaning {
 public:
  explicit Meaning(bool characters) : of_characters_(characters), characters_(byte_characters()) {
    for (unsigned byte = 0; byte < 256; ++byte) bytes_[characters_[byte]] = static_cast<char>(byte);
  }

  // The token of the vocabulary for one byte.
  std::string token(unsigned byte) const {
    return of_characters_ ? byte_token(byte) : to_utf8(std::u32string(1, characters_[byte]));
  }

  // Nothing where a character of it stands for no byte.
  std::optional<std::string> word(const std::string& token) const {
    std::string text;
    for (const char32_t point : to_points(token)) {
      const auto found = bytes_.find(point);
      if (found == bytes_.end()) return std::nullopt;
      text.push_back(found->second);
    }
    return text;
  }

  Token of(const std::string& token, bool special) const {
    if (!of_characters_) return {word(token).value_or(token), special, false};
    if (const auto byte = byte_of(token)) return {std::string(1, *byte), special, true};
    std::u32string points = to_points(token);
    std::replace(points.begin(), points.end(), kLine, U' ');
    return {to_utf8(points), special, false};
  }

 private:
  bool of_characters_;
  std::array<char32_t, 256> characters_;
  std::unordered_map<char32_t, char> bytes_;
};

// Throws Error unless everything but the vocabulary is as one of the known kinds has it.
void Tokenizer::read_settings(const Field& root) {
  const Field model = root.at("model");
  if (model.has("type")) model.at("type").require("BPE");
  for (const char* name : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) require_absent(model, name);
  if (model.has("byte_fallback") && model.at("byte_fallback").boolean()) {
    require_absent(model, "ignore_merges");
    split_ = Split::none;
    strip_ = check_characters(root);
    return;
  }
  whole_words_ = model.has("ignore_merges") && model.at("ignore_merges").boolean();
  split_ = read_split(root.at("pre_tokenizer"));
  root.at("decoder").at("type").require("ByteLevel");
  compose_ = root.has("normalizer");
  if (compose_) root.at("normalizer").at("type").require("NFC");
}

Tokenizer Tokenizer::parse(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  const Field root(json, where);
  Tokenizer tokenizer;
  tokenizer.read_settings(root);
  const bool of_characters = tokenizer.split_ == Split::none;
  const Meaning meaning(of_characters);

  const Field vocabulary = root.at("model").at("vocab");
  if (!vocabulary.value().is_object()) vocabulary.refuse("must be an object of token ids");
  std::unordered_map<std::string, std::int32_t> ids;
  for (const auto& [token, value] : vocabulary.value().items()) {
    const Field field(value, vocabulary.where() + "." + in_quotes(token));
    const auto id = static_cast<std::int32_t>(field.integer(0, kMostTokens));
    if (!tokenizer.tokens_.emplace(id, meaning.of(token, false)).second) field.refuse("another token has its id");
    ids.emplace(token, id);
    const std::u32string points = of_characters ? to_points(token) : std::u32string();
    if (points.size() == 1) tokenizer.character_ids_.emplace(points[0], id);
    if (tokenizer.whole_words_) {
      if (const auto word = meaning.word(token)) tokenizer.word_ids_.emplace(*word, id);
    }
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(meaning.token(byte));
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
    tokenizer.tokens_[id] = meaning.of(content, special);
    tokenizer.added_[static_cast<unsigned char>(content[0])].push_back({content, id});
  }
  for (std::vector<Added>& bucket : tokenizer.added_) {
    std::stable_sort(bucket.begin(), bucket.end(),
                     [](const Added& a, const Added& b) { return a.text.size() > b.text.size(); });
  }
  return tokenizer;
}

}  // namespace vlmp
