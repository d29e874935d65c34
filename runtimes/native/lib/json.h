// JSON whose faults are one line: which file, which field, what would be right.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace vlmp {

using Json = nlohmann::json;

// A value with the place where it stands, for messages: "manifest.json: kv.layers".
class Field {
 public:
  Field(const Json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  // All throw Error when the value is missing or of another kind.
  Field at(const char* name) const;
  bool has(const char* name) const;  // and is not null
  std::vector<Field> items() const;
  std::string text() const;
  bool boolean() const;
  std::int64_t integer(std::int64_t least, std::int64_t most) const;
  std::vector<std::int32_t> integers(std::int64_t least, std::int64_t most) const;
  // Throws Error unless it is exactly `wanted`.
  void require(const Json& wanted) const;

  const Json& value() const { return *value_; }
  const std::string& where() const { return where_; }
  [[noreturn]] void refuse(const std::string& why) const;

 private:
  const Json* value_;
  std::string where_;
};

// A value as text for a message. Lists and objects only by what they are: a hostile one may be too deep to write out.
std::string shown(const Json& value);

// Throws Error naming `where` when `text` is not JSON.
Json parse_json(std::string_view text, const std::string& where);

}  // namespace vlmp
