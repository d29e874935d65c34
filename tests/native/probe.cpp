// What the parts of the runner compute, for tests that compare it with Python's libraries.
//
//   probe encode TOKENIZER            stdin: a JSON list of texts; stdout: a JSON list of id lists
//   probe turn TOKENIZER FORM CONTROL stdin: a JSON list of prompts; stdout: a JSON list of id lists, of texts where a
//                                     prompt is refused. CONTROL: a JSON list of control tokens
//   probe decode TOKENIZER            stdin: a JSON list of id lists; stdout: a JSON list of texts
//   probe stream TOKENIZER            stdin: the same; stdout: a JSON list of lists, the text handed out after each id
//   probe picture IMAGE               stdout: width and height in a line, then RGB bytes
//   probe resize IMAGE WIDTH HEIGHT RESAMPLE   the same
//   probe pixels IMAGE MANIFEST       stdout: float32 [3, height, width]
//   probe fit IMAGE HEIGHT WIDTH FIT RED GREEN BLUE RESAMPLE   stdout: the fitted picture, as `picture` has it
//   probe facts MANIFEST              stdout: what was read of it, as tests/conformance has it
//   probe bundle FOLDER               stdout: the model's name
//   probe pick TEMPERATURE TOP_P SEED COUNT   stdin: a JSON list of logits; stdout: a JSON list of tokens
#include <algorithm>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>

#include "error.h"
#include "files.h"
#include "image.h"
#include "json.h"
#include "sampler.h"
#include "prompt.h"
#include "text_stream.h"
#include "tokenizer.h"

namespace {

using vlmp::Json;
using Arguments = std::vector<std::string>;

Json input() {
  return Json::parse(std::string(std::istreambuf_iterator<char>(std::cin), {}));
}

vlmp::Tokenizer tokenizer(const std::string& path) {
  return vlmp::Tokenizer::parse(vlmp::read_file(path, 1 << 28), path);
}

void write(const vlmp::Picture& picture) {
  std::cout << picture.width << ' ' << picture.height << '\n';
  std::cout.write(reinterpret_cast<const char*>(picture.rgb.data()), static_cast<std::streamsize>(picture.rgb.size()));
}

void encode(const Arguments& values) {
  const vlmp::Tokenizer used = tokenizer(values.at(0));
  Json all = Json::array();
  for (const Json& text : input()) all.push_back(used.encode(text.get<std::string>()));
  std::cout << all;
}

void turn(const Arguments& values) {
  const vlmp::Tokenizer used = tokenizer(values.at(0));
  const auto control = Json::parse(values.at(2)).get<std::vector<std::string>>();
  Json all = Json::array();
  for (const Json& prompt : input()) {
    try {
      all.push_back(vlmp::encode_turn(used, values.at(1), prompt.get<std::string>(), control));
    } catch (const vlmp::Error& error) {
      all.push_back(error.what());
    }
  }
  std::cout << all;
}

void decode(const Arguments& values) {
  const vlmp::Tokenizer used = tokenizer(values.at(0));
  Json all = Json::array();
  for (const Json& ids : input()) all.push_back(used.decode(ids.get<std::vector<std::int32_t>>()));
  std::cout << all;
}

void stream(const Arguments& values) {
  const vlmp::Tokenizer used = tokenizer(values.at(0));
  Json all = Json::array();
  for (const Json& given : input()) {
    const auto ids = given.get<std::vector<std::int32_t>>();
    vlmp::TextStream text(used);
    Json chunks = Json::array();
    for (auto end = ids.begin(); end != ids.end();) {
      ++end;
      chunks.push_back(text.next({ids.begin(), end}, end == ids.end()));
    }
    all.push_back(chunks);
  }
  std::cout << all;
}

void pixels(const Arguments& values) {
  const vlmp::Manifest manifest = vlmp::parse_manifest(vlmp::read_file(values.at(1), 1 << 26), values.at(1));
  const std::vector<float> found = vlmp::to_pixels(vlmp::open_picture(values.at(0)), manifest.image);
  std::cout.write(reinterpret_cast<const char*>(found.data()), static_cast<std::streamsize>(found.size() * 4));
}

const std::map<std::string, vlmp::Resample> kResamples = {{"bilinear", vlmp::Resample::bilinear},
                                                          {"bicubic", vlmp::Resample::bicubic},
                                                          {"lanczos", vlmp::Resample::lanczos}};

std::string name_of(vlmp::Resample resample) {
  return std::find_if(kResamples.begin(), kResamples.end(), [&](const auto& one) { return one.second == resample; })
      ->first;
}

void fit(const Arguments& values) {
  vlmp::ImageSpec spec{};
  spec.height = std::stoi(values.at(1));
  spec.width = std::stoi(values.at(2));
  spec.pad = values.at(3) == "pad";
  for (std::size_t channel = 0; channel < 3; ++channel) {
    spec.pad_rgb[channel] = static_cast<std::uint8_t>(std::stoi(values.at(4 + channel)));
  }
  spec.resample = kResamples.at(values.at(7));
  write(vlmp::fit(vlmp::open_picture(values.at(0)), spec));
}

Json tensors(const std::vector<vlmp::TensorSpec>& specs) {
  Json all = Json::array();
  for (const vlmp::TensorSpec& spec : specs) {
    all.push_back({spec.name, spec.shape, spec.dtype == vlmp::Dtype::int32 ? "int32" : "float32"});
  }
  return all;
}

void facts(const Arguments& values) {
  const vlmp::Manifest manifest = vlmp::parse_manifest(vlmp::read_file(values.at(0), 1 << 26), values.at(0));
  const vlmp::ImageSpec& image = manifest.image;
  const vlmp::PromptSpec& prompt = manifest.prompt;
  Json stages = Json::array(), layers = Json::array(), methods;
  for (const vlmp::StageSpec& stage : manifest.stages) {
    stages.push_back(
        {{"place", stage.in_tower ? "vision" : "layer"},
         {"index", stage.index},
         {"pruner", stage.pruner},
         {"tokens", stage.tokens},
         {"num_kept", stage.num_kept},
         {"form", stage.rebuilt ? "rebuilt" : "dropped"},
         {"weighs", stage.weighs}});
  }
  for (const vlmp::KvLayerSpec& layer : manifest.kv) {
    if (layer.has_keys()) layers.push_back({layer.heads, layer.head_dim, layer.base, layer.slots});
    else layers.push_back({layer.state_rows, layer.state_width});
  }
  for (const vlmp::MethodName name : vlmp::kMethods) {
    const vlmp::MethodSpec& method = manifest.method(name);
    methods[vlmp::name_of(name)] = {{"file", method.file},
                                    {"entry", method.entry},
                                    {"data_file", method.data_file},
                                    {"inputs", tensors(method.inputs)},
                                    {"outputs", tensors(method.outputs)}};
  }
  std::cout << Json{{"model", manifest.model},
                    {"target", manifest.target},
                    {"precision", manifest.precision},
                    {"quantization", manifest.quantization},
                    {"vocab_size", manifest.vocab_size},
                    {"image",
                     {{"height", image.height},
                      {"width", image.width},
                      {"fit", image.pad ? "pad" : "stretch"},
                      {"pad_rgb", image.pad_rgb},
                      {"resample", name_of(image.resample)},
                      {"visual_tokens", image.visual_tokens}}},
                    {"stages", stages},
                    {"num_kept", manifest.num_kept()},
                    {"kv", {{"layers", layers}}},
                    {"prompt",
                     {{"first", prompt.first},
                      {"following", prompt.following},
                      {"text_len", prompt.text_len},
                      {"max_new_tokens", prompt.max_new_tokens},
                      {"end_ids", prompt.end_ids},
                      {"end_text_id", prompt.end_text_id},
                      {"pad_id", prompt.pad_id},
                      {"control_tokens", prompt.control_tokens},
                      {"tokenizer_file", prompt.tokenizer_file}}},
                    {"methods", methods}};
}

void pick(const Arguments& values) {
  vlmp::Sampler sampler(std::stod(values.at(0)), std::stod(values.at(1)), std::stoull(values.at(2)));
  const auto logits = input().get<std::vector<float>>();
  Json all = Json::array();
  for (int count = std::stoi(values.at(3)); count > 0; --count) all.push_back(sampler.sample(logits));
  std::cout << all;
}

}  // namespace

int main(int count, char** values) {
  const std::map<std::string, std::function<void(const Arguments&)>> tasks = {
      {"encode", encode},
      {"turn", turn},
      {"decode", decode},
      {"stream", stream},
      {"picture", [](const Arguments& given) { write(vlmp::open_picture(given.at(0))); }},
      {"resize",
       [](const Arguments& given) {
         write(vlmp::resize(vlmp::open_picture(given.at(0)), std::stoi(given.at(1)), std::stoi(given.at(2)),
                            kResamples.at(given.at(3))));
       }},
      {"pixels", pixels},
      {"fit", fit},
      {"facts", facts},
      {"bundle", [](const Arguments& given) { std::cout << vlmp::read_manifest(given.at(0)).model; }},
      {"pick", pick},
  };
  try {
    const Arguments arguments(values + 1, values + count);
    tasks.at(arguments.at(0))({arguments.begin() + 1, arguments.end()});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "probe: " << vlmp::text_of(error) << std::endl;
    return 2;
  }
}
