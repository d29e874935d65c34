package dev.vlmp.engine

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test

class SamplerTest {
    private val cases = ConformanceFiles.json("sampler/cases.json")

    @Test
    fun `numbers of the generator`() {
        val random = Mt19937(5489)
        for (wanted in cases.get("seed_5489").texts()) assertEquals(
            wanted,
            java.lang.Long.toUnsignedString(random.next()),
        )
    }

    @Test
    fun `drawn tokens`() {
        for (case in ConformanceFiles.cases("sampler/cases.json")) {
            val logits = cases.getAsJsonObject("logits").list(case.text("logits")).map { it.asFloat }.toFloatArray()
            val seed = java.lang.Long.parseUnsignedLong(case.text("seed"))
            val sampler = Nucleus(case.get("temperature").asDouble, case.get("top_p").asDouble, seed)
            val wanted = case.get("tokens").ints()
            assertEquals(wanted, wanted.map { sampler.sample(logits) }, case.toString())
        }
    }

    @Test
    fun `settings out of their limits are refused`() {
        for ((temperature, topP) in
            listOf(
                -1.0 to 1.0,
                Double.NaN to 1.0,
                Double.POSITIVE_INFINITY to 1.0,
                100.5 to 1.0,
                1.0 to -0.1,
                1.0 to 1.1,
                1.0 to Double.NaN,
            )) {
            assertThrows(IllegalArgumentException::class.java) { Nucleus(temperature, topP, 0) }
        }
    }
}
