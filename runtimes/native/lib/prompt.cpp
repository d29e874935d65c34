#include "prompt.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "error.h"

namespace vlmp {
namespace {

const std::string kMark = "{prompt}";  // stands for the user's words in a form

// The longest of `tokens` that `text` begins with; empty when there is none.
std::string_view begin_of(std::string_view text, const std::vector<std::string>& tokens) {
  std::string_view longest;
  for (const std::string& token : tokens) {
    if (token.size() > longest.size() && text.substr(0, token.size()) == token) longest = token;
  }
  return longest;
}

// Text, control token, text, ..., text.
std::vector<std::string> cut(const std::string& words, const std::vector<std::string>& control) {
  std::vector<std::string> pieces(1);
  for (std::size_t place = 0; place < words.size();) {
    const std::string_view token = begin_of(std::string_view(words).substr(place), control);
    if (token.empty()) {
      pieces.back().push_back(words[place++]);
    } else {
      pieces.insert(pieces.end(), {std::string(token), ""});
      place += token.size();
    }
  }
  return pieces;
}

// The filled form, cut at the control tokens that the user gave: text, control token, text, ..., text.
std::vector<std::string> fill(const std::string& form, const std::vector<std::string>& words) {
  std::vector<std::string> pieces(1);
  std::size_t place = 0;
  for (std::size_t mark; (mark = form.find(kMark, place)) != std::string::npos; place = mark + kMark.size()) {
    pieces.back() += form.substr(place, mark - place) + words.front();
    pieces.insert(pieces.end(), words.begin() + 1, words.end());
  }
  pieces.back() += form.substr(place);
  return pieces;
}

}  // namespace

std::vector<std::int32_t> encode_turn(const Tokenizer& tokenizer, const std::string& form, const std::string& prompt,
                                      const std::vector<std::string>& control) {
  std::vector<std::int32_t> ids;
  const std::vector<std::string> pieces = fill(form, cut(prompt, control));
  for (std::size_t place = 0; place < pieces.size(); ++place) {
    const bool typed = place % 2 == 1;
    const std::vector<std::int32_t> own =
        typed ? tokenizer.encode_as_text(pieces[place]) : tokenizer.encode(pieces[place]);
    ids.insert(ids.end(), own.begin(), own.end());
  }
  std::set<std::int32_t> meant;
  for (const std::string& token : control) {
    if (const auto id = tokenizer.added_id(token)) meant.insert(*id);
  }
  const auto only_meant = [&](std::vector<std::int32_t> all) {
    all.erase(std::remove_if(all.begin(), all.end(), [&](std::int32_t id) { return meant.count(id) == 0; }), all.end());
    return all;
  };
  if (only_meant(ids) != only_meant(tokenizer.encode(fill(form, {""}).front()))) {
    refuse(Fault::prompt,
           "the prompt is no plain text to this tokenizer, which makes a control token of it: reword it");
  }
  return ids;
}

}  // namespace vlmp
