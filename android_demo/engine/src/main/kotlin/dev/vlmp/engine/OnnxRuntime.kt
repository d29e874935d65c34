package dev.vlmp.engine

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Bundles for `onnx` on ONNX Runtime's CPU kernels. Caches are updated in place: one tensor is fed and pinned as
 * output.
 */
class OnnxRuntime
private constructor(
    private val manifest: Manifest,
    private val graphs: Map<String, OrtSession>,
    private val caches: Map<String, OnnxTensor>,
) : Runtime {
    private val environment = OrtEnvironment.getEnvironment()

    override val name = "onnxruntime ${environment.version}"

    override fun run(step: Step, inputs: Map<String, ByteBuffer>, stop: Stop): Map<String, ByteBuffer> {
        val spec = manifest.method(step)
        val made = ArrayList<OnnxTensor>()
        val options = OrtSession.RunOptions()
        options.setLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL) // what fails is raised
        try {
            val feeds =
                spec.inputs.associate { tensor ->
                    val cache = caches[tensor.name] // all other tensors are of this call
                    Pair(
                        tensor.name,
                        cache ?: tensor(environment, tensor, inputs.getValue(tensor.name)).also { made += it },
                    )
                }
            val pinned = if (manifest.kv.inPlace) spec.outputs.mapNotNull(::pinned).toMap() else emptyMap()
            val wanted = spec.outputs.filter { it.name !in pinned }
            return stop.during({ options.setTerminate(true) }) {
                graphs.getValue(spec.file).run(feeds, wanted.map { it.name }.toSet(), pinned, options).use { results ->
                    wanted.associate { Pair(it.name, copied(results.get(it.name).get() as OnnxTensor, it)) }
                }
            }
        } catch (error: OrtException) {
            if (stop.asked) throw Stopped(error) // a call that was ended fails
            throw RuntimeFailure("ONNX Runtime failed in ${step.key}: ${oneLine(error)}", error)
        } finally {
            for (tensor in made) tensor.close()
            options.close()
        }
    }

    override fun close() {
        for (tensor in caches.values) tensor.close()
        for (graph in graphs.values) graph.close()
    }

    private fun pinned(output: TensorSpec): Pair<String, OnnxTensor>? =
        caches[output.name.replaceFirst("_", "_cache_")]?.let { Pair(output.name, it) }

    /** Opens bundles; hand it to an [Engine]. */
    companion object : RuntimeOpener {
        override fun open(
            folder: File,
            manifest: Manifest,
            caches: Map<String, ByteBuffer>,
            threads: Int?,
        ): OnnxRuntime {
            val environment = OrtEnvironment.getEnvironment()
            val graphs = LinkedHashMap<String, OrtSession>()
            var opened: OnnxRuntime? = null
            try {
                OrtSession.SessionOptions().use { options ->
                    // Warnings tell of pinned buffers, at each call.
                    options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR)
                    if (threads != null) options.setIntraOpNumThreads(threads)
                    for (file in manifest.methods.values.map { it.file }.distinct()) {
                        graphs[file] = environment.createSession(File(folder, file).path, options)
                        checkGraph(manifest, file, graphs.getValue(file))
                    }
                }
                val specs = manifest.method(Step.DECODE).inputs.filter { it.name in caches }
                val tensors = specs.associate { Pair(it.name, tensor(environment, it, caches.getValue(it.name))) }
                return OnnxRuntime(manifest, graphs, tensors).also { opened = it }
            } catch (error: OrtException) {
                throw BadBundle(BadBundle.Kind.RUNTIME, "${folder.name} cannot be loaded: ${oneLine(error)}", error)
            } finally {
                if (opened == null) for (graph in graphs.values) graph.close()
            }
        }

        /** The names in the graph are those of the manifest; shapes and types are compared when it runs. */
        private fun checkGraph(manifest: Manifest, file: String, graph: OrtSession) {
            for (spec in manifest.methods.values.filter { it.file == file }) {
                val missing =
                    spec.inputs.map { it.name } - graph.inputNames + (spec.outputs.map { it.name } - graph.outputNames)
                if (missing.isEmpty()) continue
                throw BadBundle(
                    BadBundle.Kind.RUNTIME,
                    "$file has no tensor ${quoted(missing.first())}, which the manifest names",
                )
            }
        }

        private fun tensor(environment: OrtEnvironment, spec: TensorSpec, buffer: ByteBuffer): OnnxTensor {
            val type = if (spec.dtype == "int32") OnnxJavaType.INT32 else OnnxJavaType.FLOAT
            val shape = spec.shape.map { it.toLong() }.toLongArray()
            return OnnxTensor.createTensor(environment, buffer.duplicate().order(ByteOrder.nativeOrder()), shape, type)
        }

        /** A copy of an output. Raises [RuntimeFailure] where it is not as large as the manifest says. */
        private fun copied(tensor: OnnxTensor, spec: TensorSpec): ByteBuffer {
            val bytes = tensor.byteBuffer.order(ByteOrder.nativeOrder())
            if (bytes.remaining() != 4 * spec.elements) {
                throw RuntimeFailure(
                    "The graph returned ${bytes.remaining()} bytes of ${spec.name}, not ${4 * spec.elements}"
                )
            }
            return directBuffer(spec.elements).also { it.duplicate().put(bytes) }
        }
    }
}
