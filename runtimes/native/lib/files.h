// Files that are read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace vlmp {

// The whole file. Throws Error when it is no regular file, cannot be read, or has more than `most` bytes.
std::string read_file(const std::filesystem::path& path, std::uintmax_t most);

// The path of a bundle's file. Throws Error when the name `relative` leaves the folder. Links may: what they lead to has
// the manifest's hash.
std::filesystem::path inside(const std::filesystem::path& bundle, const std::string& relative);

// Hex sha256, read in pieces. Throws Error when the file cannot be read.
std::string sha256(const std::filesystem::path& path);

}  // namespace vlmp
