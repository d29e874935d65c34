package dev.vlmp.engine

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonParseException
import com.google.gson.JsonParser
import com.google.gson.JsonPrimitive
import com.google.gson.Strictness
import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import com.google.gson.stream.MalformedJsonException
import java.io.IOException
import java.io.StringReader

/**
 * One value of a JSON file, with its place for messages. Whatever is not as asked for is refused.
 *
 * [problem] is the kind of [BadBundle] that it raises.
 */
internal class Field(
    private val value: JsonElement,
    private val file: String,
    val path: String,
    private val problem: BadBundle.Kind,
) {
    /** The same, where what is wrong counts as another kind. */
    fun raising(kind: BadBundle.Kind) = Field(value, file, path, kind)

    fun refuse(what: String): Nothing = throw BadBundle(problem, "$file: ${path.ifEmpty { "it" }} $what")

    /** Whether a field is there, and not null. */
    fun has(name: String) = value is JsonObject && value.get(name).let { it != null && !it.isJsonNull }

    fun at(name: String): Field {
        if (value !is JsonObject) refuse("must be an object")
        val place = if (path.isEmpty()) name else "$path.$name"
        return Field(value.get(name) ?: throw BadBundle(problem, "$file: $place is missing"), file, place, problem)
    }

    fun items(): List<Field> {
        if (!value.isJsonArray) refuse("must be a list")
        return value.asJsonArray.mapIndexed { number, item -> Field(item, file, "$path.$number", problem) }
    }

    /** The fields of an object in their order. */
    fun entries(): List<Pair<String, Field>> {
        if (value !is JsonObject) refuse("must be an object")
        return value.entrySet().map { (name, item) -> Pair(name, Field(item, file, "$path.${quoted(name)}", problem)) }
    }

    val isText
        get() = value.isJsonPrimitive && value.asJsonPrimitive.isString

    fun text(): String = if (isText) value.asString else refuse("must be text")

    fun boolean(): Boolean =
        if (value.isJsonPrimitive && value.asJsonPrimitive.isBoolean) value.asBoolean
        else refuse("must be true or false")

    /** A number without a fraction from [least] to [most]. */
    fun integer(least: Long, most: Long): Long {
        val written = if (value.isJsonPrimitive && value.asJsonPrimitive.isNumber) value.asString else ""
        val number = if (written.length < 19 && WHOLE.matches(written)) written.toLong() else null
        if (number == null || number !in least..most) refuse("must be a whole number from $least to $most")
        return number
    }

    fun int(least: Int, most: Int = MOST): Int = integer(least.toLong(), most.toLong()).toInt()

    /** 1 to 2^24. */
    fun count(): Int = int(1)

    fun ints(least: Int, most: Int): IntArray = items().map { it.int(least, most) }.toIntArray()

    /** One of [allowed]. */
    fun choice(vararg allowed: String): String {
        if (!isText || value.asString !in allowed) refuse("must be ${allowed.joinToString(" or ")}")
        return value.asString
    }

    fun requireValue(wanted: JsonElement) {
        if (value != wanted) refuse("must be $wanted")
    }

    /** Refuses a field that is there, unless it says "no": false, empty or null. */
    fun requireAbsent(name: String) {
        if (!has(name)) return
        val field = at(name)
        val primitive = field.value as? JsonPrimitive
        if (
            primitive == null ||
                !(primitive.isBoolean && !primitive.asBoolean || primitive.isString && primitive.asString.isEmpty())
        ) {
            field.refuse("is set, which this engine does not know")
        }
    }

    companion object {
        const val MOST = 1 shl 24
        private val WHOLE = Regex("-?[0-9]+")

        /** The root of a JSON text. Raises [BadBundle] on what is none; `file` is named in messages. */
        fun parse(text: String, file: String, kind: BadBundle.Kind): Field {
            val reader = JsonReader(StringReader(text))
            reader.strictness = Strictness.STRICT
            try {
                val value = JsonParser.parseReader(reader)
                if (reader.peek() != JsonToken.END_DOCUMENT) throw MalformedJsonException("there is more after its end")
                return Field(value, file, "", kind)
            } catch (error: JsonParseException) {
                throw BadBundle(kind, "$file is not JSON: ${oneLine(error.cause ?: error)}", error)
            } catch (error: IOException) {
                throw BadBundle(kind, "$file is not JSON: ${oneLine(error)}", error)
            }
        }
    }
}
