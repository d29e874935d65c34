#include "output.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

#include "error.h"

namespace vlmp {
namespace fs = std::filesystem;
namespace {

// Whether a new file may take the place of what is there: not of a device, a pipe or a link.
bool is_replaced(const fs::path& path) {
  std::error_code error;
  const fs::file_type type = fs::symlink_status(path, error).type();
  return type == fs::file_type::regular || type == fs::file_type::not_found;
}

fs::path part_of(fs::path path) {
  return path.replace_filename("." + path.filename().string() + "." + std::to_string(getpid()) + ".part");
}

// Returns errno, or 0.
int put(const fs::path& path, std::string_view bytes) {
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return errno;
  const bool whole = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  const int error = whole ? 0 : errno;
  return std::fclose(file) == 0 || error != 0 ? error : errno;
}

[[noreturn]] void fail_to_write(const fs::path& path, int error) {
  fail(path.string(), " cannot be written: ", std::generic_category().message(error));
}

}  // namespace

void check_can_write(const fs::path& path) {
  int error = 0;
  std::error_code ignored;
  if (is_replaced(path)) {
    const fs::path part = part_of(path);
    error = put(part, "");
    fs::remove(part, ignored);
  } else if (fs::is_directory(path, ignored)) {
    error = EISDIR;
  } else if (access(path.c_str(), W_OK) != 0) {
    error = errno;
  }
  if (error != 0) fail_to_write(path, error);
}

void write_file(const fs::path& path, std::string_view bytes) {
  const bool replaced = is_replaced(path);
  const fs::path target = replaced ? part_of(path) : path;
  int error = put(target, bytes);
  if (replaced && error == 0 && std::rename(target.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) return;
  std::error_code ignored;
  if (replaced) fs::remove(target, ignored);
  fail_to_write(path, error);
}

}  // namespace vlmp
