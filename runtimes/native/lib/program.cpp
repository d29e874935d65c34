#include "program.h"

#include <executorch/devtools/etdump/etdump_flatcc.h>
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/backend/options.h>
#include <executorch/runtime/platform/platform.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>

#include "error.h"
#include "files.h"
#include "unicode.h"

#if __has_include(<executorch/extension/threadpool/threadpool.h>)
#include <executorch/extension/threadpool/threadpool.h>
#else  // The pip wheel has the library without its header; these names of it are all that is needed.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  std::size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(std::uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool
#endif

namespace vlmp {
namespace {

namespace et = ::executorch::runtime;
using ::executorch::extension::Module;
using ::executorch::extension::TensorPtr;
using ScalarType = ::executorch::aten::ScalarType;

// Who hears ExecuTorch's log. Never destroyed: threads may log while the process ends.
struct Log {
  std::mutex mutex;
  LogListener listener = nullptr;
  void* user = nullptr;
};

Log& log() {
  static Log& kept = *new Log;
  return kept;
}

thread_local std::string last_error;  // that was logged in this thread

void hear(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, std::size_t, const char* message,
          std::size_t length) try {
  LogListener listener = nullptr;
  void* user = nullptr;
  {
    const std::lock_guard<std::mutex> lock(log().mutex);
    listener = log().listener;
    user = log().user;
  }
  if (level == kError || level == kFatal) last_error.assign(message, std::min<std::size_t>(length, 200));
  if (listener != nullptr) {
    listener(user, static_cast<char>(level), to_valid_utf8(std::string_view(message, length)).c_str());
  }
} catch (const std::bad_alloc&) {
  // The line is lost; what it is about goes on.
}

// Once: ExecuTorch complains about a second time.
void take_log() {
  static const bool taken = [] {
    et::PalImpl ours{};
    ours.emit_log_message = hear;
    ours.source_filename = __FILE__;
    return et::register_pal(ours);
  }();
  if (!taken) refuse(Fault::runtime, "ExecuTorch's log cannot be set");
}

// Before a call. ExecuTorch and XNNPACK seldom say that memory ran out, but then malloc or mmap has.
void forget_errors() {
  errno = 0;
  last_error.clear();
}

// `fault`: what is at fault unless memory is.
void check(et::Error error, const std::string& what, Fault fault = Fault::bundle) {
  if (error == et::Error::Ok) return;
  if (error == et::Error::MemoryAllocationFailed || errno == ENOMEM) refuse(Fault::memory, what, ": memory ran out");
  refuse(fault, what, ": ", last_error.empty() ? et::to_string(error) : last_error);
}

template <typename Value>
Value& check(et::Result<Value>& result, const std::string& what, Fault fault = Fault::bundle) {
  check(result.error(), what, fault);
  return result.get();
}

ScalarType type_of(Dtype dtype) { return dtype == Dtype::float32 ? ScalarType::Float : ScalarType::Int; }

// Without this option each method packs a copy of the weights; see docs/native-runner.md for what it saves.
void share_packed_weights() {
  et::BackendOptions<1> options;
  if (options.set_option("weight_cache_enabled", true) == et::Error::Ok) {
    check(et::set_option("XnnpackBackend", options.view()), "XNNPACK's weight cache cannot be set");
  }
}

// ExecuTorch has one pool of threads for the process, and a loaded program points to it: it may be another one only
// while no program is there.
class PoolUse {
 public:
  explicit PoolUse(std::optional<int> threads) {
    const std::lock_guard<std::mutex> lock(mutex());
    if (threads) set(*threads);
    ++programs();
  }
  ~PoolUse() {
    const std::lock_guard<std::mutex> lock(mutex());
    --programs();
  }
  PoolUse(const PoolUse&) = delete;
  PoolUse& operator=(const PoolUse&) = delete;

 private:
  static void set(int threads) {
    if (threads < 1 || threads > kMostThreads) {
      refuse(Fault::argument, "threads ", threads, ": must be from 1 to ", kMostThreads);
    }
    auto* pool = ::executorch::extension::threadpool::get_threadpool();
    if (pool == nullptr) refuse(Fault::runtime, "ExecuTorch has no pool of threads");
    const std::size_t now = pool->get_thread_count();
    if (now == static_cast<std::size_t>(threads)) return;
    if (programs() > 0) {
      refuse(Fault::argument, "threads ", threads, ": another bundle is open, with ", now,
             " threads, which are the whole process's: close it first, or take as many");
    }
    if (!pool->_unsafe_reset_threadpool(static_cast<std::uint32_t>(threads))) {
      refuse(Fault::runtime, "the number of threads cannot be set to ", threads);
    }
  }

  static std::mutex& mutex() {
    static std::mutex& kept = *new std::mutex;
    return kept;
  }
  static int& programs() {
    static int count = 0;
    return count;
  }
};

void check_tensor(const et::Result<et::TensorInfo>& info, const TensorSpec& spec, const std::string& what) {
  check(info.error(), what);
  const auto sizes = info->sizes();
  const bool same = info->scalar_type() == type_of(spec.dtype) &&
                    std::equal(sizes.begin(), sizes.end(), spec.shape.begin(), spec.shape.end());
  if (!same) fail(what, ": shape or dtype of ", spec.name, " is not what the manifest says");
}

}  // namespace

struct Program::Loaded {
  const Manifest& manifest;
  PoolUse pool;
  std::string path;
  Module module;

  Loaded(const std::filesystem::path& bundle, const Manifest& of, std::optional<int> threads, bool traced)
      : manifest(of),
        pool(threads),
        path(inside(bundle, of.method(MethodName::vision).file)),
        // Mapped: packed weights are not read again, so their pages can go. Shared arenas: one method runs at a time.
        module(path, data_files(bundle, of), Module::LoadMode::Mmap,
               traced ? std::make_unique<::executorch::etdump::ETDumpGen>() : nullptr, nullptr, nullptr,
               /*share_memory_arenas=*/true) {}

  static std::vector<std::string> data_files(const std::filesystem::path& bundle, const Manifest& manifest) {
    const MethodSpec& first = manifest.method(MethodName::vision);
    for (const MethodSpec& method : manifest.methods) {
      if (method.file != first.file || method.data_file != first.data_file) {
        fail(bundle.string(), ": its methods are in several files: one is taken");
      }
    }
    return first.data_file.empty() ? std::vector<std::string>{}
                                   : std::vector<std::string>{inside(bundle, first.data_file)};
  }

  void load_method(const MethodSpec& method) {
    const std::string what = path + ": method " + method.entry;
    forget_errors();
    et::Result<et::MethodMeta> found = module.method_meta(method.entry);
    const et::MethodMeta& meta = check(found, what);
    if (meta.num_inputs() != method.inputs.size() || meta.num_outputs() != method.outputs.size()) {
      fail(what, " does not take and return what the manifest says");
    }
    for (std::size_t i = 0; i < method.inputs.size(); ++i) {
      check_tensor(meta.input_tensor_meta(i), method.inputs[i], what);
    }
    for (std::size_t i = 0; i < method.outputs.size(); ++i) {
      check_tensor(meta.output_tensor_meta(i), method.outputs[i], what);
    }
    check(module.load_method(method.entry), what + " cannot be loaded");
  }
};

Program::Program(const std::filesystem::path& bundle, const Manifest& manifest, std::optional<int> threads,
                 bool traced) {
  take_log();
  forget_errors();
  share_packed_weights();
  loaded_ = std::make_unique<Loaded>(bundle, manifest, threads, traced);
  forget_errors();
  check(loaded_->module.load(et::Program::Verification::InternalConsistency), loaded_->path + " cannot be loaded");
  for (const MethodSpec& method : manifest.methods) loaded_->load_method(method);
}

Program::~Program() = default;

Outputs Program::run(MethodName name, const Inputs& inputs) {
  const MethodSpec& method = loaded_->manifest.method(name);
  const std::string what = loaded_->path + ": method " + method.entry;
  std::vector<TensorPtr> tensors;  // own what the values point to
  std::vector<et::EValue> values;
  for (const TensorSpec& spec : method.inputs) {
    void* data = const_cast<void*>(inputs.at(spec.name));  // ExecuTorch does not write to inputs
    tensors.push_back(::executorch::extension::from_blob(data, spec.shape, type_of(spec.dtype)));
    values.emplace_back(tensors.back());
  }
  forget_errors();
  et::Result<std::vector<et::EValue>> result = loaded_->module.execute(method.entry, values);
  const std::vector<et::EValue>& returned = check(result, what, Fault::runtime);
  Outputs outputs;
  for (std::size_t i = 0; i < method.outputs.size(); ++i) {
    const TensorSpec& spec = method.outputs[i];
    const bool whole = i < returned.size() && returned[i].isTensor() &&
                       returned[i].toTensor().scalar_type() == type_of(spec.dtype) &&
                       static_cast<std::size_t>(returned[i].toTensor().numel()) == spec.elements();
    if (!whole) refuse(Fault::runtime, what, ": output ", spec.name, " is not what the manifest says");
    outputs.add(spec.name, returned[i].toTensor().const_data_ptr());
  }
  return outputs;
}

std::string Program::events() {
  auto* tracer = dynamic_cast<::executorch::etdump::ETDumpGen*>(loaded_->module.event_tracer());
  if (tracer == nullptr) fail(loaded_->path, ": no events were traced");
  const ::executorch::etdump::ETDumpResult result = tracer->get_etdump_data();
  const std::unique_ptr<void, decltype(&std::free)> owner(result.buf, std::free);
  if (result.buf == nullptr || result.size == 0) fail(loaded_->path, ": the event tracer has nothing to tell");
  return {static_cast<const char*>(result.buf), result.size};
}

std::string runtime_name() { return "executorch " VLMP_EXECUTORCH_VERSION " (XNNPACK)"; }

void set_log(LogListener listener, void* user) {
  const std::lock_guard<std::mutex> lock(log().mutex);
  log().listener = listener;
  log().user = user;
}

}  // namespace vlmp
