#include "manifest.h"

#include <algorithm>
#include <set>

#include "error.h"
#include "files.h"
#include "json.h"
#include "unicode.h"

namespace vlmp {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kOldestVersion = 1, kSchemaVersion = 2;
constexpr std::size_t kMostLayers = 1024;
constexpr std::int64_t kMost = 1 << 24;           // of any count
constexpr std::int64_t kMostElements = 1 << 30;   // of a tensor
constexpr std::int64_t kMostIds = (1u << 31) - 1;
constexpr std::uintmax_t kMostBytes = 1 << 26;    // of the manifest

int count(const Field& field, std::int64_t least = 1, std::int64_t most = kMost) {
  return static_cast<int>(field.integer(least, most));
}

TensorSpec read_tensor(const Field& field) {
  TensorSpec tensor;
  tensor.name = field.at("name").text();
  tensor.shape = field.at("shape").integers(1, kMost);
  std::int64_t elements = 1;
  for (const std::int32_t size : tensor.shape) {
    elements *= size;
    if (elements > kMostElements) field.at("shape").refuse("is too large");
  }
  const std::string dtype = field.at("dtype").text();
  if (dtype != "float32" && dtype != "int32") {
    field.at("dtype").refuse("is " + in_quotes(dtype) + ", this vlmp takes float32 and int32");
  }
  tensor.dtype = dtype == "float32" ? Dtype::float32 : Dtype::int32;
  return tensor;
}

MethodSpec read_method(const Field& field) {
  MethodSpec method;
  method.file = field.at("file").text();
  method.entry = field.at("entry").text();
  method.data_file = field.has("data_file") ? field.at("data_file").text() : "";
  for (const Field& item : field.at("inputs").items()) method.inputs.push_back(read_tensor(item));
  for (const Field& item : field.at("outputs").items()) method.outputs.push_back(read_tensor(item));
  return method;
}

Resample read_resample(const Field& field) {
  const std::string name = field.text();
  if (name == "bilinear") return Resample::bilinear;
  if (name == "bicubic") return Resample::bicubic;
  if (name != "lanczos") field.refuse("is " + in_quotes(name) + ", must be bilinear, bicubic or lanczos");
  return Resample::lanczos;
}

ImageSpec read_image(const Field& field) {
  ImageSpec image{};
  image.height = count(field.at("height"));
  image.width = count(field.at("width"));
  const std::string fit = field.at("fit").text();
  if (fit != "pad" && fit != "stretch") field.at("fit").refuse("must be pad or stretch");
  image.pad = fit == "pad";
  const std::vector<std::int32_t> rgb = field.at("pad_rgb").integers(0, 255);
  if (rgb.size() != 3) field.at("pad_rgb").refuse("must have three values");
  for (std::size_t channel = 0; channel < 3; ++channel) image.pad_rgb[channel] = std::uint8_t(rgb[channel]);
  image.resample = read_resample(field.at("resample"));
  if (field.has("frames")) field.at("frames").require(1);
  return image;
}

// Nothing where the tokens are on several grids, or on a part of one.
void read_grid(const Field& field, ImageSpec& image) {
  const std::vector<Field> segments = field.items();
  if (segments.empty()) field.refuse("is empty");
  const Field& grid = segments.front();
  const int rows = count(grid.at("rows")), columns = count(grid.at("columns"));
  const int first = count(grid.at("first"), 0), stride = count(grid.at("stride"));
  const bool is_whole = std::int64_t{rows} * columns == image.visual_tokens && first == 0 && stride == columns;
  if (segments.size() == 1 && is_whole) {
    image.grid_rows = rows;
    image.grid_columns = columns;
  }
}

std::vector<StageSpec> read_stages(const Field& field, int visual_tokens, std::size_t layers) {
  std::vector<StageSpec> stages;
  for (const Field& item : field.items()) {
    const bool in_tower = item.at("place").text() == "vision";
    if (!in_tower) item.at("place").require("layer");
    if (in_tower && !stages.empty()) item.at("place").refuse("is vision, which only the first stage's may be");
    const bool rebuilt = item.has("form") && item.at("form").text() == "rebuilt";
    if (item.has("form") && !(in_tower && rebuilt)) item.at("form").require("dropped");
    const std::int64_t last = in_tower ? kMost : static_cast<std::int64_t>(layers) - 1;
    const StageSpec stage{count(item.at("index"), 0, last), item.at("pruner").text(),
                          count(item.at("tokens")), count(item.at("num_kept")),
                          item.has("weighs") && item.at("weighs").boolean(), in_tower, rebuilt};
    if (!stages.empty() && !stages.back().in_tower && stage.index <= stages.back().index) {
      item.at("index").refuse("is not after the stage before, " + std::to_string(stages.back().index));
    }
    const int left = stages.empty() ? visual_tokens : stages.back().left();
    if (stage.tokens != left) item.at("tokens").refuse("is not what the stage before leaves, " + std::to_string(left));
    if (stage.num_kept > left) item.at("num_kept").refuse("is more than there are, " + std::to_string(left));
    stages.push_back(stage);
  }
  if (stages.size() == 1 && stages.front().in_tower) field.refuse("has none in the language model");
  return stages;
}

std::vector<KvLayerSpec> read_kv(const Field& field) {
  field.at("dtype").require("float32");
  std::vector<KvLayerSpec> layers;
  for (const Field& item : field.at("layers").items()) {
    KvLayerSpec layer;
    if (item.has("state")) {
      const std::vector<std::int32_t> shape = item.at("state").integers(1, kMost);
      if (shape.size() != 2) item.at("state").refuse("must have two sizes");
      layer.state_rows = shape[0];
      layer.state_width = shape[1];
    } else {
      layer.heads = count(item.at("kv_heads"));
      layer.head_dim = count(item.at("head_dim"));
      layer.base = count(item.at("base"));
      layer.slots = count(item.at("slots"));
    }
    layers.push_back(layer);
  }
  if (layers.empty() || layers.size() > kMostLayers) field.at("layers").refuse("must have 1 to 1024 entries");
  return layers;
}

// Schema version 1: one size of heads, and two sizes of caches.
std::vector<KvLayerSpec> read_kv_1(const Field& field) {
  field.at("dtype").require("float32");
  const int layers = count(field.at("layers"), 1, kMostLayers), early = count(field.at("early_layers"), 0);
  if (early > layers) field.at("early_layers").refuse("is more than all layers");
  const int heads = count(field.at("kv_heads")), head_dim = count(field.at("head_dim"));
  const KvLayerSpec before{heads, head_dim, count(field.at("early_base")), count(field.at("early_slots"))};
  const KvLayerSpec after{heads, head_dim, count(field.at("late_base")), count(field.at("late_slots"))};
  std::vector<KvLayerSpec> kv(static_cast<std::size_t>(layers), after);
  std::fill_n(kv.begin(), early, before);
  return kv;
}

PromptSpec read_prompt(const Field& field, int vocab_size) {
  const auto id = [&](const Field& value) { return static_cast<std::int32_t>(value.integer(0, vocab_size - 1)); };
  PromptSpec prompt;
  prompt.first = field.at("first").text();
  prompt.following = field.at("following").text();
  for (const char* form : {"first", "following"}) {
    if (field.at(form).text().find("{prompt}") == std::string::npos) field.at(form).refuse("has no {prompt}");
  }
  prompt.tokenizer_file = field.at("tokenizer_file").text();
  if (field.has("control_tokens")) {
    for (const Field& token : field.at("control_tokens").items()) {
      prompt.control_tokens.push_back(token.text());
      if (token.text().empty()) token.refuse("is empty");
    }
  }
  prompt.text_len = count(field.at("text_len"));
  prompt.max_new_tokens = count(field.at("max_new_tokens"));
  prompt.end_ids = field.at("end_ids").integers(0, kMostIds);
  prompt.end_text_id = id(field.at("end_text_id"));
  prompt.pad_id = id(field.at("pad_id"));
  return prompt;
}

FileSpec read_file_spec(const Field& field) {
  return {field.at("path").text(), field.at("sha256").text(),
          static_cast<std::uintmax_t>(field.at("size_bytes").integer(0, std::int64_t{1} << 50))};
}

// Every tensor has exactly the shape that follows from the geometry, so that copies between them stay inside.
class ShapeCheck {
 public:
  ShapeCheck(const Manifest& manifest, const std::string& where) : manifest_(manifest), where_(where) {}

  void run() {
    const int text = manifest_.prompt.text_len, room = text + manifest_.prompt.max_new_tokens;
    for (const KvLayerSpec& layer : manifest_.kv) {
      if (layer.has_keys() && layer.slots != layer.base + room) {
        fail(where_, ": kv: slots must be the base, text_len and max_new_tokens together");
      }
    }
    const ImageSpec& image = manifest_.image;
    const auto& visual = manifest_.method(MethodName::vision).outputs;
    const int hidden = !visual.empty() && visual[0].shape.size() == 2 ? visual[0].shape[1] : 1;
    const TensorSpec visual_ND{"visual", {manifest_.handed(), hidden}, Dtype::float32};
    std::vector<TensorSpec> seen = {visual_ND};
    if (manifest_.has_tower()) seen.push_back({"places", {manifest_.stages.front().num_kept}, Dtype::int32});

    method_ = MethodName::vision;
    inputs({{"image", {1, 3, image.height, image.width}, Dtype::float32}});
    std::vector<TensorSpec> told = seen;
    add_biases(told, bias_of, true);
    outputs(told);

    const TensorSpec bucket{"ids", {1, text}, Dtype::int32}, length{"text_len", {1}, Dtype::int32};
    const TensorSpec past{"past", {1}, Dtype::int32}, logits{"logits", {manifest_.vocab_size}, Dtype::float32};
    const std::vector<int> kept_S = {manifest_.num_kept()};
    method_ = MethodName::prefill;
    std::vector<TensorSpec> first = {bucket, length, visual_ND};
    if (manifest_.drops()) first.push_back(seen.back());
    add_biases(first, bias_cache_of, true);
    inputs(first);
    std::vector<TensorSpec> filled = {logits, {"kept", kept_S, Dtype::int32}, {"order", kept_S, Dtype::int32},
                                      {"filled", {1}, Dtype::int32}};
    for (std::size_t stage = manifest_.has_tower(); stage + 1 < manifest_.stages.size(); ++stage) {
      filled.push_back({kept_of(stage), {manifest_.stages[stage].num_kept}, Dtype::int32});
    }
    add_rows(filled, "key_", "value_", [&](const KvLayerSpec& layer) { return layer.base + text; });
    add_states(filled, state_of);
    add_biases(filled, bias_of, false);
    outputs(filled);

    for (const bool one : {true, false}) {
      method_ = one ? MethodName::decode : MethodName::extend;
      std::vector<TensorSpec> step = {one ? TensorSpec{"ids", {1, 1}, Dtype::int32} : bucket, past};
      if (!one) step.push_back(length);
      add_rows(step, "key_cache_", "value_cache_", [](const KvLayerSpec& layer) { return layer.slots; });
      add_states(step, state_cache_of);
      add_biases(step, bias_cache_of, true);
      add_biases(step, bias_cache_of, false);
      inputs(step);
      std::vector<TensorSpec> rows = {logits};
      add_rows(rows, "key_", "value_", [&](const KvLayerSpec&) { return one ? 1 : text; });
      add_states(rows, state_of);
      outputs(rows);
    }
  }

 private:
  // Those of the stage in the vision tower, or of the language model's.
  void add_biases(std::vector<TensorSpec>& specs, std::string name_of(std::size_t), bool in_tower) const {
    for (std::size_t stage = 0; stage < manifest_.stages.size(); ++stage) {
      const StageSpec& spec = manifest_.stages[stage];
      if (spec.told() && spec.in_tower == in_tower) specs.push_back({name_of(stage), {spec.num_kept}, Dtype::float32});
    }
  }

  void add_states(std::vector<TensorSpec>& specs, std::string name_of(std::size_t)) const {
    for (std::size_t number = 0; number < manifest_.kv.size(); ++number) {
      const KvLayerSpec& layer = manifest_.kv[number];
      if (!layer.has_keys()) specs.push_back({name_of(number), {layer.state_rows, layer.state_width}, Dtype::float32});
    }
  }

  template <typename RowsOf>
  void add_rows(std::vector<TensorSpec>& specs, const char* key, const char* value, RowsOf rows_of) const {
    for (std::size_t number = 0; number < manifest_.kv.size(); ++number) {
      const KvLayerSpec& layer = manifest_.kv[number];
      if (!layer.has_keys()) continue;
      for (const char* kind : {key, value}) {
        specs.push_back({kind + std::to_string(number), {layer.heads, rows_of(layer), layer.head_dim}, Dtype::float32});
      }
    }
  }

  void inputs(const std::vector<TensorSpec>& wanted) const {
    compare(manifest_.method(method_).inputs, wanted, "input");
  }
  void outputs(const std::vector<TensorSpec>& wanted) const {
    compare(manifest_.method(method_).outputs, wanted, "output");
  }

  void compare(const std::vector<TensorSpec>& found, const std::vector<TensorSpec>& wanted, const char* kind) const {
    const std::string at = where_ + ": methods." + name_of(method_) + ": ";
    if (found.size() != wanted.size()) fail(at, "has ", found.size(), " ", kind, "s, must have ", wanted.size());
    std::set<std::string> seen;
    for (const TensorSpec& tensor : found) {
      const auto same = std::find_if(wanted.begin(), wanted.end(),
                                     [&](const TensorSpec& other) { return other.name == tensor.name; });
      if (same == wanted.end() || !seen.insert(tensor.name).second) {
        fail(at, kind, " ", in_quotes(tensor.name), " is unknown or there twice");
      }
      if (same->shape != tensor.shape || same->dtype != tensor.dtype) {
        fail(at, "shape or dtype of ", kind, " ", tensor.name, " does not follow from the sizes of the bundle");
      }
    }
  }

  const Manifest& manifest_;
  const std::string& where_;
  MethodName method_ = MethodName::vision;
};

void check_files(const fs::path& bundle, const Manifest& manifest, bool check_hashes) {
  std::set<std::string> named = {manifest.prompt.tokenizer_file};
  for (const MethodSpec& method : manifest.methods) {
    named.insert(method.file);
    if (!method.data_file.empty()) named.insert(method.data_file);
  }
  for (const std::string& path : named) {
    inside(bundle, path);
    const bool listed = std::any_of(manifest.files.begin(), manifest.files.end(),
                                    [&](const FileSpec& file) { return file.path == path; });
    if (!listed) fail(bundle.string(), ": manifest uses ", in_quotes(path), " but does not list it among its files");
  }
  for (const FileSpec& file : manifest.files) {
    const fs::path path = inside(bundle, file.path);
    std::error_code error;
    if (!fs::is_regular_file(path, error)) {
      const bool there = fs::symlink_status(path, error).type() != fs::file_type::not_found;
      fail(bundle.string(), ": ", in_quotes(file.path),
           " is missing", there ? ", what is there is neither a file nor a link to one" : "", ": copy the bundle again");
    }
    const std::uintmax_t size = fs::file_size(path, error);
    if (error || size != file.size_bytes) {
      fail(bundle.string(), ": ", file.path, " has ", size, " bytes, the manifest says ", file.size_bytes,
           ": copy the bundle again");
    }
    if (check_hashes && sha256(path) != file.sha256) {
      fail(bundle.string(), ": ", file.path, " is damaged (sha256 differs): copy the bundle again");
    }
  }
}

const TensorSpec& named(const std::vector<TensorSpec>& specs, const std::string& name) {
  for (const TensorSpec& spec : specs) {
    if (spec.name == name) return spec;
  }
  throw std::out_of_range(name);
}

}  // namespace

const char* name_of(MethodName method) {
  switch (method) {
    case MethodName::vision: return "vision";
    case MethodName::prefill: return "prefill";
    case MethodName::decode: return "decode";
    case MethodName::extend: return "extend";
  }
  return "";
}

std::string kept_of(std::size_t stage) { return "kept_" + std::to_string(stage); }
std::string bias_of(std::size_t stage) { return "bias_" + std::to_string(stage); }
std::string bias_cache_of(std::size_t stage) { return "bias_cache_" + std::to_string(stage); }
std::string state_of(std::size_t layer) { return "state_" + std::to_string(layer); }
std::string state_cache_of(std::size_t layer) { return "state_cache_" + std::to_string(layer); }

std::size_t TensorSpec::elements() const {
  std::size_t product = 1;
  for (const std::int32_t size : shape) product *= static_cast<std::size_t>(size);
  return product;
}

std::string Manifest::pruners() const {
  std::string names;
  for (const StageSpec& stage : stages) {
    if (stage.pruner != "none") names += (names.empty() ? "" : "+") + stage.pruner;
  }
  return names.empty() ? "none" : names;
}

std::uintmax_t Manifest::size_bytes() const {
  std::uintmax_t sum = 0;
  for (const FileSpec& file : files) sum += file.size_bytes;
  return sum;
}

const TensorSpec& MethodSpec::input(const std::string& name) const { return named(inputs, name); }
const TensorSpec& MethodSpec::output(const std::string& name) const { return named(outputs, name); }

namespace {

void read_shape(const Field& root, Manifest& manifest) {
  const std::vector<Field> shapes = root.at("shapes").items();
  if (shapes.empty()) root.at("shapes").refuse("is empty");
  const Field& shape = shapes.front();
  manifest.image = read_image(shape.at("image"));
  manifest.image.visual_tokens = count(shape.at("image").at("visual_tokens"));
  read_grid(shape.at("image").at("segments"), manifest.image);
  manifest.kv = read_kv(shape.at("kv"));
  manifest.stages = read_stages(shape.at("stages"), manifest.image.visual_tokens, manifest.kv.size());
  for (const MethodName name : kMethods) {
    const std::string called = shape.at("methods").at(name_of(name)).text();
    manifest.methods[static_cast<std::size_t>(name)] = read_method(root.at("methods").at(called.c_str()));
  }
}

// The same of schema version 1: one picture size, and one pruner.
void read_parts_1(const Field& root, Manifest& manifest) {
  const Field pruner = root.at("pruner");
  manifest.image = read_image(root.at("image"));
  manifest.image.visual_tokens = count(pruner.at("visual_tokens"));
  const std::vector<std::int32_t> grid = root.at("image").at("grid").integers(1, kMost);
  if (grid.size() == 2 && std::int64_t{grid[0]} * grid[1] == manifest.image.visual_tokens) {
    manifest.image.grid_rows = grid[0];
    manifest.image.grid_columns = grid[1];
  }
  manifest.kv = read_kv_1(root.at("kv"));
  const auto layers = static_cast<std::int64_t>(manifest.kv.size());
  manifest.stages = {{count(pruner.at("layer"), 0, layers - 1), pruner.at("name").text(), manifest.image.visual_tokens,
                      count(pruner.at("kept_tokens"), 1, manifest.image.visual_tokens)}};
  for (const MethodName name : kMethods) {
    manifest.methods[static_cast<std::size_t>(name)] = read_method(root.at("methods").at(name_of(name)));
  }
}

}  // namespace

Manifest parse_manifest(std::string_view json, const std::string& where) {
  const Json raw = parse_json(json, where);
  const Field root(raw, where);
  if (!root.has("schema_version")) fail(where, " has no schema_version: not a vlmp manifest");
  const std::int64_t version = root.at("schema_version").integer(0, kMost);
  if (version < kOldestVersion || version > kSchemaVersion) {
    fail(where, " has schema version ", version, ", this vlmp reads ", kOldestVersion, " to ", kSchemaVersion, ": ",
         version > kSchemaVersion ? "take a newer one" : "export the model again");
  }
  Manifest manifest;
  manifest.model = root.at("model").text();
  manifest.checkpoint = root.at("checkpoint").text();
  manifest.target = root.at("target").text();
  if (manifest.target != "executorch") {
    fail(where, ": target is ", in_quotes(manifest.target), ": this vlmp runs executorch");
  }
  root.at("precision").require("float32");
  manifest.precision = "float32";
  manifest.quantization = root.at("quantization").text();
  manifest.vocab_size = count(root.at("vocab_size"));
  manifest.prompt = read_prompt(root.at("prompt"), manifest.vocab_size);
  if (version == 1) {
    read_parts_1(root, manifest);
  } else {
    read_shape(root, manifest);
  }
  for (const Field& item : root.at("files").items()) manifest.files.push_back(read_file_spec(item));
  ShapeCheck(manifest, where).run();
  return manifest;
}

Manifest read_manifest(const fs::path& bundle, bool check_hashes) {
  const fs::path path = bundle / "manifest.json";
  std::error_code error;
  if (!fs::is_regular_file(path, error)) fail(bundle.string(), " is not a bundle: it has no manifest.json");
  Manifest manifest = parse_manifest(read_file(path, kMostBytes), path.string());
  check_files(bundle, manifest, check_hashes);
  return manifest;
}

}  // namespace vlmp
