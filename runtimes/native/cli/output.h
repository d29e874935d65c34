// Files that the runner writes.
#pragma once

#include <filesystem>
#include <string_view>

namespace vlmp {

// Throws Error when write_file would find no place or no permission, so that nobody waits for a result that is lost.
void check_can_write(const std::filesystem::path& path);

// Writes to a file beside `path` and renames it: the file appears when it is complete. Into a device, a pipe or what a
// link leads to it writes straight. Throws Error.
void write_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace vlmp
