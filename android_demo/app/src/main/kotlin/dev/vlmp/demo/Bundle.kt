package dev.vlmp.demo

import java.io.File
import org.json.JSONException
import org.json.JSONObject

/** One place at which visual tokens are pruned: before decoder layer [layer]. */
class Stage(val layer: Int, val pruner: String, val tokens: Int, val kept: Int)

/** Tokens on a grid over [box] (left, top, right, bottom, in pixels of the fitted picture). */
class Segment(val rows: Int, val columns: Int, val first: Int, val stride: Int, val box: IntArray) {
    /** Where token number [token] is, null when it is not on this grid. */
    fun cell(token: Int): Pair<Int, Int>? {
        val row = Math.floorDiv(token - first, stride)
        val column = Math.floorMod(token - first, stride)
        return if (row in 0 until rows && column < columns) Pair(row, column) else null
    }
}

class BundleFile(val path: String, val sha256: String, val size: Long)

/** What the pages need of a manifest (version 2, first shape). The engine reads the rest, and checks it. */
class Manifest(text: String) {
    private val root = JSONObject(text)
    private val shape = root.getJSONArray("shapes").getJSONObject(0)
    private val image = shape.getJSONObject("image")
    private val kv = shape.getJSONObject("kv")

    val model: String = root.getString("model")
    val checkpoint: String = root.getString("checkpoint")
    val target: String = root.getString("target")
    val precision: String = root.getString("precision")
    val quantization: String = root.getString("quantization")
    val textLen = root.getJSONObject("prompt").getInt("text_len")
    val maxNewTokens = root.getJSONObject("prompt").getInt("max_new_tokens")
    val height = image.getInt("height")
    val width = image.getInt("width")
    val fit: String = image.getString("fit")
    val visualTokens = image.getInt("visual_tokens")
    val segments = image.getJSONArray("segments").objects().map { each ->
        val box = each.getJSONArray("box")
        Segment(
            each.getInt("rows"), each.getInt("columns"), each.getInt("first"), each.getInt("stride"),
            IntArray(4) { box.getInt(it) },
        )
    }
    val stages = shape.getJSONArray("stages").objects().map {
        Stage(it.getInt("index"), it.getString("pruner"), it.getInt("tokens"), it.getInt("num_kept"))
    }
    val layers = kv.getJSONArray("layers").length()
    val files = root.getJSONArray("files").objects().map {
        BundleFile(it.getString("path"), it.getString("sha256"), it.getLong("size_bytes"))
    }

    val kept get() = stages.lastOrNull()?.kept ?: visualTokens
    val pruned get() = kept < visualTokens
    val pruner get() = stages.joinToString("+") { it.pruner }.ifEmpty { "none" }
    val size get() = files.sumOf { it.size }

    /** Bytes of all KV caches. */
    val cacheBytes: Long = kv.getJSONArray("layers").objects().sumOf {
        2L * it.getInt("kv_heads") * it.getInt("head_dim") * it.getInt("slots")
    } * if (kv.getString("dtype") == "float16") 2 else 4

    /** A guess of what running it takes: a runtime packs weights anew, and works in memory of its own. */
    val memoryBytes get() = size * 3 / 2 + cacheBytes + (96L shl 20)

    init {
        if (root.getInt("schema_version") != 2) throw JSONException("schema_version must be 2")
        files.firstOrNull { !safe(it.path) }?.let { throw JSONException("${it.path} is no name inside a bundle") }
    }

    companion object {
        const val NAME = "manifest.json"

        /** Reads a manifest. Throws [Refused], which says what is wrong. */
        fun read(text: String): Manifest = try {
            Manifest(text)
        } catch (error: JSONException) {
            throw Refused("$NAME is not that of a bundle: ${error.message}")
        }

        /** Relative, without a way out. */
        private fun safe(path: String) =
            path != NAME && '\\' !in path && '\u0000' !in path && path.split('/').none { it in setOf("", ".", "..") }
    }
}

/** A bundle on this phone. */
class Bundle(val folder: File) {
    val name: String = folder.name
    val manifest = Manifest.read(File(folder, Manifest.NAME).readText())
}

private fun org.json.JSONArray.objects(): List<JSONObject> = List(length()) { getJSONObject(it) }
