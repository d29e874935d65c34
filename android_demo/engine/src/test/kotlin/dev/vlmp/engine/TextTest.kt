package dev.vlmp.engine

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource

/** Tokenizer, streaming, prompts and Unicode against the conformance files. */
class TextTest {
    @ParameterizedTest
    @ValueSource(strings = ["tiny", "trained", "older", "llama", "smollm", "llama3"])
    fun `texts and ids`(name: String) {
        val tokenizer = ConformanceFiles.tokenizer(name)
        val cases = ConformanceFiles.json("tokenizer/$name/cases.json")
        for (case in cases.list("encode").map { it.asJsonArray }) {
            val text = case[0].asString
            assertEquals(case[1].ints(), tokenizer.encode(text).toList(), text)
            assertEquals(if (case.size() > 2) case[2].asString else text, tokenizer.decode(case[1].ints()))
        }
        for (case in cases.list("decode").map { it.asJsonArray }) assertEquals(
            case[1].asString,
            tokenizer.decode(case[0].ints()),
        )
        val control = addedTokens(name).filter { it.startsWith("<") }
        for (case in cases.list("as_text").map { it.asJsonArray }) {
            assertEquals(
                case[1].ints(),
                encodeTurn(tokenizer, "{prompt}", case[0].asString, control).toList(),
                case[0].asString,
            )
        }
    }

    @ParameterizedTest
    @ValueSource(strings = ["tiny", "trained"])
    fun `every 23rd code point`(name: String) {
        val tokenizer = ConformanceFiles.tokenizer(name)
        val numbers =
            ByteBuffer.wrap(ConformanceFiles.bytes("tokenizer/$name/code_points.bin")).order(ByteOrder.LITTLE_ENDIAN)
        var compared = 0
        for (point in ((0..0x10FFFF) - (0xD800..0xDFFF)).filterIndexed { place, _ -> place % 23 == 0 }) {
            val ids = List(numbers.short.toInt()) { numbers.short.toInt() and 0xFFFF }
            assertEquals(ids, tokenizer.encode(String(Character.toChars(point))).toList(), "U+${point.toString(16)}")
            compared++
        }
        assertEquals(48351, compared)
        assertEquals(0, numbers.remaining())
    }

    @TestFactory
    fun `tokenizers that are refused`(): List<DynamicTest> {
        val refused = ConformanceFiles.json("tokenizer/refused.json")
        val others = refused.getAsJsonObject("other_bases")
        val tiny = listOf(refused.text("base") to refused.list("cases"))
        return (tiny + others.keySet().map { it to others.list(it) })
            .flatMap { (base, changes) -> changes.map { base to it.asJsonObject } }
            .map { (base, case) ->
                dynamicTest("$base ${case.list("change")}") {
                    val damaged = ConformanceFiles.json("tokenizer/$base/tokenizer.json")
                    ConformanceFiles.change(damaged, case.list("change"))
                    val error =
                        assertThrows(BadBundle::class.java) { Tokenizer.parse(damaged.toString(), "tokenizer.json") }
                    assertEquals(BadBundle.Kind.TOKENIZER, error.kind)
                }
            }
    }

    @Test
    fun `prompts`() {
        for (case in ConformanceFiles.cases("prompt/cases.json")) {
            val tokenizer = ConformanceFiles.tokenizer(case.text("tokenizer"))
            val listed = case.get("control_tokens").texts()
            val control = if (case.get("meant").asBoolean) emptyList() else listed.ifEmpty { tokenizer.specialTokens }
            val encode = { encodeTurn(tokenizer, case.text("template"), case.text("prompt"), control).toList() }
            if (case.has("ids")) {
                assertEquals(case.get("ids").ints(), encode(), case.toString())
            } else {
                assertEquals("control_token", case.text("refused"))
                assertEquals(BadPrompt.Kind.CONTROL_TOKEN, assertThrows(BadPrompt::class.java) { encode() }.kind)
            }
        }
    }

    @Test
    fun `streams`() {
        for (case in ConformanceFiles.cases("stream/cases.json")) {
            val stream = TextStream(ConformanceFiles.tokenizer(case.text("tokenizer")))
            val ids = case.get("ids").ints()
            assertEquals(
                case.get("chunks").texts(),
                ids.indices.map { stream.next(ids.take(it + 1), it == ids.size - 1) },
            )
        }
    }

    @Test
    fun `long words take no long time`() {
        // A square of this length would take minutes.
        val word = "ab".repeat(500_000)
        assertEquals(word, ConformanceFiles.tokenizer("tiny").let { it.decode(it.encode(word).toList()) })
    }

    @Test
    fun `half a surrogate pair is a replacement character`() {
        val tokenizer = ConformanceFiles.tokenizer("tiny")
        assertEquals("a\uFFFDb", tokenizer.decode(tokenizer.encode("a\uD83Db").toList()))
    }

    private fun addedTokens(name: String) =
        ConformanceFiles.json("tokenizer/$name/tokenizer.json").list("added_tokens").map {
            it.asJsonObject.text("content")
        }
}
