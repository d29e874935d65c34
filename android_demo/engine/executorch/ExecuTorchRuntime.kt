package dev.vlmp.engine

import java.io.File
import java.nio.ByteBuffer
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/**
 * Bundles for `executorch` on ExecuTorch's Android library. **Compiled, not run**: the library has natives for Android
 * only.
 *
 * Its Java side takes one file: a bundle with a data file of its own is refused. A call cannot be ended from outside,
 * so a stop comes after the call that runs.
 */
class ExecuTorchRuntime
private constructor(
    private val manifest: Manifest,
    private val module: Module,
    private val caches: Map<String, ByteBuffer>,
) : Runtime {
    override val name = "executorch"

    override fun run(step: Step, inputs: Map<String, ByteBuffer>, stop: Stop): Map<String, ByteBuffer> {
        val spec = manifest.method(step)
        val values = spec.inputs.map { EValue.from(tensor(it, caches[it.name] ?: inputs.getValue(it.name))) }
        val outputs =
            try {
                module.execute(spec.entry, *values.toTypedArray())
            } catch (error: RuntimeException) {
                throw RuntimeFailure("ExecuTorch failed in ${step.key}: ${oneLine(error)}", error)
            }
        if (outputs.size != spec.outputs.size) {
            throw RuntimeFailure(
                "ExecuTorch returned ${outputs.size} tensors from ${step.key}, the manifest lists ${spec.outputs.size}"
            )
        }
        return spec.outputs.withIndex().associate { (place, tensor) ->
            Pair(tensor.name, buffer(step, tensor, outputs[place].toTensor()))
        }
    }

    override fun close() = module.destroy()

    private fun tensor(spec: TensorSpec, buffer: ByteBuffer): Tensor {
        val shape = spec.shape.map { it.toLong() }.toLongArray()
        return if (spec.dtype == "int32") Tensor.fromBlob(buffer.asIntBuffer(), shape)
        else Tensor.fromBlob(buffer.asFloatBuffer(), shape)
    }

    /** A copy: an output is a view of the method's memory. */
    private fun buffer(step: Step, spec: TensorSpec, tensor: Tensor): ByteBuffer {
        if (tensor.numel() != spec.elements.toLong()) {
            throw RuntimeFailure(
                "ExecuTorch returned ${tensor.numel()} numbers of ${spec.name} from ${step.key}, not ${spec.elements}"
            )
        }
        val buffer = directBuffer(spec.elements)
        if (spec.dtype == "int32") buffer.asIntBuffer().put(tensor.dataAsIntArray)
        else buffer.asFloatBuffer().put(tensor.dataAsFloatArray)
        return buffer
    }

    /** Opens bundles; hand it to an [Engine]. */
    companion object : RuntimeOpener {
        override fun open(
            folder: File,
            manifest: Manifest,
            caches: Map<String, ByteBuffer>,
            threads: Int?,
        ): ExecuTorchRuntime {
            val spec = manifest.method(Step.PREFILL)
            if (manifest.methods.values.any { it.dataFile.isNotEmpty() || it.file != spec.file }) {
                throw BadBundle(
                    BadBundle.Kind.RUNTIME,
                    "${folder.name}: ExecuTorch's Android library takes bundles of one .pte file: export with --single-file",
                )
            }
            val path = File(folder, spec.file).path
            val module =
                try {
                    Module.load(path, Module.LOAD_MODE_MMAP, threads ?: 0)
                } catch (error: RuntimeException) {
                    throw BadBundle(BadBundle.Kind.RUNTIME, "${folder.name} cannot be loaded: ${oneLine(error)}", error)
                }
            for (method in manifest.methods.values) {
                val code = module.loadMethod(method.entry)
                if (code == 0) continue
                module.destroy()
                throw BadBundle(
                    BadBundle.Kind.RUNTIME,
                    "${folder.name} cannot be loaded: ${quoted(method.entry)} ends with code $code",
                )
            }
            return ExecuTorchRuntime(manifest, module, caches)
        }
    }
}
