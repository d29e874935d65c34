#include "files.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <iomanip>
#include <sstream>
#include <system_error>
#include <vector>

#include "error.h"
#include "unicode.h"

namespace vlmp {
namespace fs = std::filesystem;
namespace {

class Sha256 {
 public:
  void add(const unsigned char* bytes, std::size_t count) {
    total_ += count;
    while (count > 0) {
      const std::size_t taken = std::min(count, block_.size() - filled_);
      std::memcpy(block_.data() + filled_, bytes, taken);
      filled_ += taken;
      bytes += taken;
      count -= taken;
      if (filled_ == block_.size()) mix();
    }
  }

  std::string hex() {
    const std::uint64_t bits = total_ * 8;
    const unsigned char end = 0x80, zero = 0;
    add(&end, 1);
    while (filled_ != 56) add(&zero, 1);
    for (int shift = 56; shift >= 0; shift -= 8) {
      const auto byte = static_cast<unsigned char>(bits >> shift);
      add(&byte, 1);
    }
    std::ostringstream text;
    for (const std::uint32_t word : state_) text << std::hex << std::setw(8) << std::setfill('0') << word;
    return text.str();
  }

 private:
  static std::uint32_t turn(std::uint32_t value, int by) { return (value >> by) | (value << (32 - by)); }

  void mix() {
    static constexpr std::uint32_t kRounds[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    std::array<std::uint32_t, 64> words;
    for (std::size_t i = 0; i < 16; ++i) {
      const unsigned char* at = block_.data() + 4 * i;
      words[i] = std::uint32_t{at[0]} << 24 | std::uint32_t{at[1]} << 16 | std::uint32_t{at[2]} << 8 | at[3];
    }
    for (std::size_t i = 16; i < 64; ++i) {
      const std::uint32_t a = words[i - 15], b = words[i - 2];
      words[i] = words[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ (a >> 3)) + words[i - 7] +
                 (turn(b, 17) ^ turn(b, 19) ^ (b >> 10));
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t one = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + kRounds[i] +
                                words[i];
      const std::uint32_t two = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
    }
    const std::array<std::uint32_t, 8> mixed = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state_[i] += mixed[i];
    filled_ = 0;
  }

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, 64> block_{};
  std::size_t filled_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace

std::string read_file(const fs::path& path, std::uintmax_t most) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    fail(path.string(), fs::exists(path, error) ? " is not a file" : " does not exist");
  }
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) fail(path.string(), " cannot be read: ", error.message());
  if (size > most) fail(path.string(), " has ", size, " bytes: at most ", most, " are read");
  std::ifstream file(path, std::ios::binary);
  std::string bytes(size, '\0');
  if (!file || !file.read(bytes.data(), static_cast<std::streamsize>(size))) fail(path.string(), " cannot be read");
  return bytes;
}

fs::path inside(const fs::path& bundle, const std::string& relative) {
  const fs::path pure(relative);
  bool leaves = relative.empty() || relative == "." || pure.is_absolute() ||
                relative.find_first_of(std::string("\\\0", 2)) != std::string::npos;
  for (const fs::path& part : pure) leaves = leaves || part == "..";
  if (leaves) fail(bundle.string(), ": manifest names ", in_quotes(relative), ", which leaves the bundle's folder");
  return bundle / pure;
}

std::string sha256(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  Sha256 hash;
  std::vector<char> piece(1 << 20);
  while (file) {
    file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    hash.add(reinterpret_cast<const unsigned char*>(piece.data()), static_cast<std::size_t>(file.gcount()));
  }
  if (!file.eof()) fail(path.string(), " cannot be read");
  return hash.hex();
}

}  // namespace vlmp
