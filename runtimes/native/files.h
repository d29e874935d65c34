// Files of a bundle and files that are written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace vlmp {

// The whole file. Throws Error when it is no regular file, cannot be read, or has more than `most` bytes.
std::string read_file(const std::filesystem::path& path, std::uintmax_t most);

// Throws Error when write_file would find no place or no permission, so that nobody waits for a result that is lost.
void check_can_write(const std::filesystem::path& path);

// Writes to a file beside `path` and renames it: the file appears when it is complete. Into a device, a pipe or what a
// link leads to it writes straight. Throws Error.
void write_file(const std::filesystem::path& path, std::string_view bytes);

// The path of a bundle's file. Throws Error when the name `relative` leaves the folder. Links may: what they lead to has
// the manifest's hash.
std::filesystem::path inside(const std::filesystem::path& bundle, const std::string& relative);

// Hex sha256, read in pieces. Throws Error when the file cannot be read.
std::string sha256(const std::filesystem::path& path);

}  // namespace vlmp
