#include "program.h"

#include <executorch/devtools/etdump/etdump_flatcc.h>
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/backend/options.h>
#include <executorch/runtime/platform/platform.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>

#include "error.h"
#include "files.h"

#if __has_include(<executorch/extension/threadpool/threadpool.h>)
#include <executorch/extension/threadpool/threadpool.h>
#else  // The pip wheel has the library without its header; these two names of it are all that is needed.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
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

#ifdef VLMP_SANITIZE
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

struct Log {
  std::mutex mutex;
  std::string subject, crash, no_memory, last;
};

Log& log() {
  static Log kept;
  return kept;
}

void keep_message(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, std::size_t, const char* message,
                  std::size_t length) {
  if (level != kError && level != kFatal) return;
  const std::lock_guard<std::mutex> lock(log().mutex);
  log().last.assign(message, std::min<std::size_t>(length, 200));
}

[[noreturn]] void end_with(const std::string& line) {
  const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  ::_exit(written == static_cast<ssize_t>(line.size()) ? 2 : 3);
}

// A damaged program can bring the libraries below ours to a fault that they do not notice themselves.
void end_on_signal(int) { end_with(log().crash); }

// An exception in one of ExecuTorch's threads, or in what must not throw.
void end_on_exception() {
  try {
    if (std::current_exception()) std::rethrow_exception(std::current_exception());
  } catch (const std::bad_alloc&) {
    end_with(log().no_memory);
  } catch (...) {
  }
  std::abort();
}

void end_process() {
  std::string line = log().subject + ": ExecuTorch gave up: " + log().last;
  std::replace_if(
      line.begin(), line.end(), [](char byte) { return static_cast<unsigned char>(byte) < 0x20; }, ' ');
  end_with(line + '\n');
}

// ExecuTorch and XNNPACK seldom say that memory ran out, but then malloc or mmap has: to be called before they are.
void forget_errno() { errno = 0; }

void check(et::Error error, const std::string& what) {
  if (error == et::Error::Ok) return;
  if (error == et::Error::MemoryAllocationFailed || errno == ENOMEM) fail(what, ": memory ran out");
  const std::lock_guard<std::mutex> lock(log().mutex);
  fail(what, ": ", log().last.empty() ? et::to_string(error) : log().last);
}

template <typename Value>
Value& check(et::Result<Value>& result, const std::string& what) {
  check(result.error(), what);
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
  std::string path;
  Module module;

  Loaded(const std::filesystem::path& bundle, const Manifest& of, bool traced)
      : manifest(of),
        path(inside(bundle, of.method(MethodName::vision).file)),
        // Mapped: packed weights are not read again, so their pages can go. Shared arenas: one method runs at a time.
        module(path, data_files(bundle, of), Module::LoadMode::Mmap,
               traced ? std::make_unique<::executorch::etdump::ETDumpGen>() : nullptr, nullptr, nullptr,
               /*share_memory_arenas=*/true) {}

  static std::vector<std::string> data_files(const std::filesystem::path& bundle, const Manifest& manifest) {
    const MethodSpec& first = manifest.method(MethodName::vision);
    for (const MethodSpec& method : manifest.methods) {
      if (method.file != first.file || method.data_file != first.data_file) {
        fail(bundle.string(), ": its methods are in several files, this runner takes one");
      }
    }
    return first.data_file.empty() ? std::vector<std::string>{}
                                   : std::vector<std::string>{inside(bundle, first.data_file)};
  }

  void load_method(const MethodSpec& method) {
    const std::string what = path + ": method " + method.entry;
    forget_errno();
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

Program::Program(const std::filesystem::path& bundle, const Manifest& manifest, std::optional<int> threads, bool traced)
    : loaded_(std::make_unique<Loaded>(bundle, manifest, traced)) {
  share_packed_weights();
  if (threads) {
    auto* pool = ::executorch::extension::threadpool::get_threadpool();
    if (pool == nullptr || !pool->_unsafe_reset_threadpool(static_cast<std::uint32_t>(*threads))) {
      fail("the number of threads cannot be set to ", *threads);
    }
  }
  forget_errno();
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
  forget_errno();
  et::Result<std::vector<et::EValue>> result = loaded_->module.execute(method.entry, values);
  const std::vector<et::EValue>& returned = check(result, what);
  Outputs outputs;
  for (std::size_t i = 0; i < method.outputs.size(); ++i) {
    const TensorSpec& spec = method.outputs[i];
    const bool whole = i < returned.size() && returned[i].isTensor() &&
                       returned[i].toTensor().scalar_type() == type_of(spec.dtype) &&
                       static_cast<std::size_t>(returned[i].toTensor().numel()) == spec.elements();
    if (!whole) fail(what, ": output ", spec.name, " is not what the manifest says");
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

void quiet_runtime(const std::string& subject) {
  log().subject = subject;
  log().crash = subject + ": crashed while the program was loaded or run: it is damaged (export the model again), or " +
                "memory ran out\n";
  log().no_memory = subject + ": memory ran out\n";
  et::PalImpl quiet{};
  quiet.abort = end_process;
  quiet.emit_log_message = keep_message;
  quiet.source_filename = __FILE__;
  if (!et::register_pal(quiet)) fail("ExecuTorch's log cannot be set");
  std::set_terminate(end_on_exception);
  if (kSanitized) return;  // the sanitizer has more to say
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) std::signal(number, end_on_signal);
}

}  // namespace vlmp
