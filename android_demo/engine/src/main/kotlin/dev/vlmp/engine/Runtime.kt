package dev.vlmp.engine

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * What runs the graphs of one bundle. Tensors are direct buffers in the machine's byte order, of float32 or int32, row
 * after row, of the shapes that the manifest says. One call at a time.
 *
 * Caches belong to the session, which hands their buffers over once, when a runtime is opened. Of a bundle that updates
 * them in place, a call writes into them.
 */
interface Runtime : AutoCloseable {
    /** Name and version, for people: `onnxruntime 1.29.0`. */
    val name: String

    /**
     * Runs a method on all inputs but the caches. Returns its outputs but caches that were updated in place. They are
     * good until the next call.
     *
     * While it runs, [stop] may end it, where the runtime can do that: then it raises [Stopped]. Raises
     * [RuntimeFailure].
     */
    fun run(step: Step, inputs: Map<String, ByteBuffer>, stop: Stop): Map<String, ByteBuffer>
}

/** Opens runtimes of one kind. */
fun interface RuntimeOpener {
    /**
     * Loads the graphs. [caches] by the names of their inputs. [threads]: null is the runtime's own choice.
     *
     * Raises [BadBundle] where they cannot be loaded.
     */
    fun open(folder: File, manifest: Manifest, caches: Map<String, ByteBuffer>, threads: Int?): Runtime
}

/**
 * A call of a turn that was asked to stop. What the caches hold is as it was before. [cause]: how the runtime ended it.
 */
class Stopped(cause: Throwable? = null) : Exception("stopped", cause)

/** By which any thread may end one turn's calls at any time. */
class Stop {
    private var end: (() -> Unit)? = null

    /** Whether somebody has asked. */
    @Volatile
    var asked = false
        private set

    /** Lets the call that runs raise [Stopped], at once where the runtime can end it, and all later ones. */
    @Synchronized
    fun ask() {
        asked = true
        end?.invoke()
    }

    /** Raises [Stopped] if somebody has asked. */
    fun check() {
        if (asked) throw Stopped()
    }

    /** Runs [call]. Meanwhile [ask] calls [end], which ends it, and nothing calls [end] after it is over. */
    fun <Made> during(end: () -> Unit, call: () -> Made): Made {
        synchronized(this) {
            check()
            this.end = end
        }
        try {
            return call()
        } finally {
            synchronized(this) { this.end = null }
        }
    }
}

/** A direct buffer of so many numbers of 4 bytes, zeros. */
internal fun directBuffer(elements: Int): ByteBuffer =
    ByteBuffer.allocateDirect(4 * elements).order(ByteOrder.nativeOrder())

internal fun intBuffer(vararg values: Int): ByteBuffer = directBuffer(values.size).also { it.asIntBuffer().put(values) }

internal fun ByteBuffer.ints(): IntArray =
    asIntBuffer().let { buffer -> IntArray(buffer.remaining()).also { buffer.get(it) } }

internal fun ByteBuffer.floats(): FloatArray =
    asFloatBuffer().let { buffer -> FloatArray(buffer.remaining()).also { buffer.get(it) } }
