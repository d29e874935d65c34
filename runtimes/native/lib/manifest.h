// The manifest of a bundle: what is read of it, checked so that no later step meets a size that does not fit.
// Of several picture sizes it takes the first. Schema version 1 is read as version 2.
//
// Axes: N visual tokens, S kept, D hidden, T text bucket, V vocabulary, H KV heads, C head size.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace vlmp {

enum class MethodName { vision, prefill, decode, extend };
inline constexpr std::array<MethodName, 4> kMethods = {MethodName::vision, MethodName::prefill, MethodName::decode,
                                                       MethodName::extend};
const char* name_of(MethodName method);

// The output of prefill with what a stage before the last has kept.
std::string kept_of(std::size_t stage);

// What prefill tells of the tokens that a stage has kept, where it weighs them, and the later methods take.
std::string bias_of(std::size_t stage);
std::string bias_cache_of(std::size_t stage);

// What a method tells of a layer with a state, and the next call takes.
std::string state_of(std::size_t layer);
std::string state_cache_of(std::size_t layer);

enum class Dtype { float32, int32 };

struct TensorSpec {
  std::string name;
  std::vector<std::int32_t> shape;
  Dtype dtype;

  std::size_t elements() const;
};

struct MethodSpec {
  std::string file, entry, data_file;
  std::vector<TensorSpec> inputs, outputs;

  // Throws std::out_of_range when there is none; read_manifest has seen that all are there.
  const TensorSpec& input(const std::string& name) const;
  const TensorSpec& output(const std::string& name) const;
};

// Pillow's filters, with antialiasing.
enum class Resample { bilinear, bicubic, lanczos };

struct ImageSpec {
  int height, width;
  bool pad;  // keep the aspect ratio, with bars of pad_rgb; otherwise stretch
  std::array<std::uint8_t, 3> pad_rgb;
  Resample resample = Resample::bicubic;
  int visual_tokens = 0;  // of a picture, before any is pruned; fitting one does not need it
  int grid_rows = 0, grid_columns = 0;  // token r * columns + c is in row r, column c; 0 when it is not one grid
};

// A place in the language model at which visual tokens are pruned: before decoder layer `index`.
struct StageSpec {
  int index;
  std::string pruner;
  int tokens, num_kept;
  bool weighs = false;  // attention counts each kept token as those that it stands for
  bool in_tower = false;  // before a block of the vision tower, not before a decoder layer
  bool rebuilt = false;  // the tokens that it does not keep come back after the tower

  int left() const { return rebuilt ? tokens : num_kept; }
  // Whether the language model is told what each kept token counts for.
  bool told() const { return weighs && !rebuilt; }
};

// The cache of one decoder layer: of keys and values, where `base` is the slot of the first text token after the image,
// or, where `state_rows` is not 0, a state of that many rows, which each call replaces.
struct KvLayerSpec {
  int heads = 0, head_dim = 0, base = 0, slots = 0;
  int state_rows = 0, state_width = 0;

  bool has_keys() const { return state_rows == 0; }
};

struct PromptSpec {
  std::string first, following, tokenizer_file;
  std::vector<std::string> control_tokens;  // empty in older bundles: then the tokenizer's special tokens
  int text_len, max_new_tokens;
  std::vector<std::int32_t> end_ids;
  std::int32_t end_text_id, pad_id;
};

struct FileSpec {
  std::string path, sha256;
  std::uintmax_t size_bytes;
};

struct Manifest {
  std::string model, checkpoint, target, precision, quantization;
  int vocab_size;
  ImageSpec image;
  std::vector<StageSpec> stages;
  std::vector<KvLayerSpec> kv;
  PromptSpec prompt;
  std::array<MethodSpec, 4> methods;
  std::vector<FileSpec> files;

  std::string pruners() const;  // of all stages, with + between them
  std::uintmax_t size_bytes() const;  // of all files
  int num_kept() const { return stages.empty() ? image.visual_tokens : stages.back().num_kept; }
  bool has_tower() const { return !stages.empty() && stages.front().in_tower; }  // a stage in the vision tower
  bool drops() const { return has_tower() && !stages.front().rebuilt; }
  int handed() const { return drops() ? stages.front().num_kept : image.visual_tokens; }  // by `vision`
  const MethodSpec& method(MethodName name) const { return methods[static_cast<std::size_t>(name)]; }
};

// Throws Error naming `where` and the field that is wrong, or a shape that does not follow from the others.
Manifest parse_manifest(std::string_view json, const std::string& where);

// Reads and checks a bundle's manifest and files. Throws Error: no manifest, another schema version or target, a field
// that does not fit, a name that leaves the folder, a file that is missing, no file, or whose size or sha256 differs.
// check_hashes: without it, sha256 is not computed, for which all files are read.
Manifest read_manifest(const std::filesystem::path& bundle, bool check_hashes = true);

}  // namespace vlmp
