package dev.vlmp.engine

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The files that every reader of a bundle is tested by: tests/conformance/README.md. */
object ConformanceFiles {
    val folder = File(System.getProperty("vlmp.conformance"))

    fun json(path: String): JsonObject = JsonParser.parseString(File(folder, path).readText()).asJsonObject

    fun cases(path: String): List<JsonObject> = json(path).list("cases").map { it.asJsonObject }

    fun bytes(path: String): ByteArray = File(folder, path).readBytes()

    /** Little-endian float32. */
    fun floats(path: String): FloatArray {
        val buffer = ByteBuffer.wrap(bytes(path)).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        return FloatArray(buffer.remaining()).also { buffer.get(it) }
    }

    /** A tokenizer by its name there. */
    fun tokenizer(name: String): Tokenizer =
        tokenizers.getOrPut(name) {
            Tokenizer.parse(File(folder, "tokenizer/$name/tokenizer.json").readText(), "tokenizer.json")
        }

    /** Makes a file hostile, as its README.md says. */
    fun change(root: JsonObject, changes: JsonArray) {
        for (change in changes) apply(change.asJsonObject, root)
    }

    private fun apply(change: JsonObject, root: JsonObject) {
        val path = change.list("at").toList()
        var part: JsonElement = root
        for (step in path.dropLast(1)) part =
            if (part is JsonObject) part.get(step.asString) else part.asJsonArray[step.asInt]
        val (last, value) = path.last() to change.get("value")
        if (part is JsonObject) {
            if (value == null) part.remove(last.asString) else part.add(last.asString, value)
        } else {
            if (value == null) part.asJsonArray.remove(last.asInt) else part.asJsonArray.set(last.asInt, value)
        }
    }

    private val tokenizers = HashMap<String, Tokenizer>()
}

fun JsonObject.list(name: String): JsonArray = getAsJsonArray(name)

fun JsonObject.text(name: String): String = get(name).asString

fun JsonObject.int(name: String): Int = get(name).asInt

/** A field that may be absent or null. */
fun JsonObject.optional(name: String): JsonElement? = get(name)?.takeUnless { it.isJsonNull }

fun JsonElement.ints(): List<Int> = asJsonArray.map { it.asInt }

fun JsonElement.texts(): List<String> = asJsonArray.map { it.asString }
