#include "json.h"

#include "error.h"
#include "unicode.h"

namespace vlmp {

Json parse_json(std::string_view text, const std::string& where) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    fail(where, " is not valid JSON, at byte ", error.byte);
  } catch (const Json::exception& error) {  // a number that no double holds
    fail(where, " cannot be read as JSON: ", in_quotes(error.what()));
  }
}

void Field::refuse(const std::string& why) const { fail(where_, ": ", why); }

Field Field::at(const char* name) const {
  if (!value_->is_object()) refuse("must be an object");
  const auto found = value_->find(name);
  if (found == value_->end()) fail(where_, ": ", name, " is missing");
  return Field(*found, where_ + (where_.find(": ") == std::string::npos ? ": " : ".") + name);
}

bool Field::has(const char* name) const {
  return value_->is_object() && value_->contains(name) && !value_->at(name).is_null();
}

std::vector<Field> Field::items() const {
  if (!value_->is_array()) refuse("must be a list");
  std::vector<Field> fields;
  fields.reserve(value_->size());
  for (const Json& item : *value_) {
    fields.emplace_back(item, where_ + "[" + std::to_string(fields.size()) + "]");
  }
  return fields;
}

std::string Field::text() const {
  if (!value_->is_string()) refuse("must be text");
  return value_->get<std::string>();
}

bool Field::boolean() const {
  if (!value_->is_boolean()) refuse("must be true or false");
  return value_->get<bool>();
}

std::int64_t Field::integer(std::int64_t least, std::int64_t most) const {
  const bool fits = value_->is_number_integer() &&
                    !(value_->is_number_unsigned() && value_->get<std::uint64_t>() > static_cast<std::uint64_t>(most));
  if (!fits || value_->get<std::int64_t>() < least || value_->get<std::int64_t>() > most) {
    refuse("must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return value_->get<std::int64_t>();
}

std::vector<std::int32_t> Field::integers(std::int64_t least, std::int64_t most) const {
  std::vector<std::int32_t> numbers;
  for (const Field& item : items()) numbers.push_back(static_cast<std::int32_t>(item.integer(least, most)));
  return numbers;
}

std::string shown(const Json& value) {
  if (value.is_array()) return "a list";
  return value.is_object() ? "an object" : in_quotes(value.dump());
}

void Field::require(const Json& wanted) const {
  if (*value_ != wanted) refuse("is " + shown(*value_) + ", this vlmp needs " + wanted.dump());
}

}  // namespace vlmp
