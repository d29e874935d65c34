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
            val wanted = spec.outputs.map { it.name }.filter { it !in pinned }
            return stop.during({ options.setTerminate(true) }) {
                graphs.getValue(spec.file).run(feeds, wanted.toSet(), pinned, options).use { results ->
                    wanted.associateWith { name -> copied(results.get(name).get() as OnnxTensor) }
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
            try {
                OrtSession.SessionOptions().use { options ->
                    options.setSessionLogLevel(
                        OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR
                    ) // warnings tell of pinned buffers
                    if (threads != null) options.setIntraOpNumThreads(threads)
                    for (file in manifest.methods.values.map { it.file }.distinct()) {
                        graphs[file] = environment.createSession(File(folder, file).path, options)
                        checkGraph(manifest, file, graphs.getValue(file))
                    }
                }
                val specs = manifest.method(Step.DECODE).inputs.filter { it.name in caches }
                return OnnxRuntime(
                    manifest,
                    graphs,
                    specs.associate { Pair(it.name, tensor(environment, it, caches.getValue(it.name))) },
                )
            } catch (error: OrtException) {
                for (graph in graphs.values) graph.close()
                throw BadBundle(BadBundle.Kind.RUNTIME, "${folder.name} cannot be loaded: ${oneLine(error)}", error)
            } catch (error: BadBundle) {
                for (graph in graphs.values) graph.close()
                throw error
            }
        }

        /** The names in the graph are those of the manifest; it checks shapes and types itself when it is fed. */
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

        private fun copied(tensor: OnnxTensor): ByteBuffer {
            val bytes = tensor.byteBuffer.order(ByteOrder.nativeOrder())
            return directBuffer(bytes.remaining() / FLOAT_BYTES).also { it.duplicate().put(bytes) }
        }
    }
}
