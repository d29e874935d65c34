package dev.vlmp.demo

import dev.vlmp.engine.Answer
import dev.vlmp.engine.Manifest
import java.time.Instant
import java.time.temporal.ChronoUnit
import org.json.JSONArray
import org.json.JSONObject

/** What a benchmark asks of the phone. Memory is in MiB; what a phone does not tell is null. */
interface Device {
    val name: String
    val os: String
    val cpu: String
    val cores: Int
    val memory: Double
    val runtimes: Map<String, String>

    /** Memory of this process now, and the most that it ever had. */
    fun resident(): Double

    fun peak(): Double

    /** Android's word for how hot the phone is. */
    fun thermal(): String?
}

/** Samples of one phase, in milliseconds. */
class Samples(val all: List<Double>) {
    val median get() = quantile(0.5)
    val low get() = quantile(0.25)
    val high get() = quantile(0.75)

    /** As numpy's: between two samples on a straight line. */
    private fun quantile(share: Double): Double {
        val sorted = all.sorted()
        val place = share * (sorted.size - 1)
        val below = place.toInt()
        val above = minOf(below + 1, sorted.size - 1)
        return sorted[below] + (sorted[above] - sorted[below]) * (place - below)
    }
}

/** Runs of several bundles in turns, and their figures in the schema of vlmp-profile. */
class Benchmark(
    val bundles: List<Bundle>,
    private val photo: Photo,
    private val prompt: String,
    private val tokens: Int,
    private val runs: Int,
    private val device: Device,
) {
    /** One bundle, loaded and asked once in a round. */
    inner class Run(val round: Int, val bundle: Bundle) {
        val hotBefore = device.thermal()
        val memoryBefore = device.resident()
        var memoryLoaded = 0.0
        var memoryAfter = 0.0
        var hotAfter: String? = null
        var load = 0.0
        var answer: Answer? = null

        fun loaded(milliseconds: Double) {
            load = milliseconds
            memoryLoaded = device.resident()
        }

        fun answered(answer: Answer) {
            this.answer = answer
            memoryAfter = device.resident()
            hotAfter = device.thermal()
        }
    }

    private val all = ArrayList<Run>()

    fun begin(round: Int, bundle: Bundle): Run = Run(round, bundle).also { all += it }

    /** Whether nobody stopped it. */
    val complete get() = all.count { it.answer != null } == runs * bundles.size

    /** The phases of one bundle, by the names of vlmp-profile. */
    fun phases(bundle: Bundle): Map<String, Samples> {
        val own = all.filter { it.bundle === bundle }
        val timings = own.mapNotNull { it.answer?.timings }
        val decode = timings.mapNotNull { it.decodeTokenMs }
        return linkedMapOf(
            "load_warm" to Samples(own.map { it.load }),
            "preprocess" to Samples(timings.map { it.preprocessMs }),
            "vision" to Samples(timings.map { it.visionMs }),
            "prefill" to Samples(timings.map { it.prefillMs }),
            "decode" to Samples(decode),
            "first_token" to Samples(timings.map { it.firstTokenMs }),
        ).filterValues { it.all.size == runs }
    }

    /** The whole profile. */
    fun json(): JSONObject = JSONObject()
        .put("schema_version", 1)
        .put("created", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString())
        .put("command", "vlmp demo for Android, benchmark page")
        .put("machine", machine())
        .put("settings", settings())
        .put("bundles", JSONArray(bundles.map { profile(it) }))
        .put("warnings", JSONArray(warnings()))
        .put("conditions", JSONArray(all.map { condition(it) }))

    private fun machine() = JSONObject()
        .put("kind", "android-app")
        .put("name", device.name)
        .put("os", device.os)
        .put("cpu", device.cpu)
        .put("cores", device.cores)
        .put("memory_mib", device.memory)
        .put("runtimes", JSONObject(device.runtimes))

    private fun settings() = JSONObject()
        .put("runs", runs)
        .put("decode_tokens", tokens)
        .put("threads", JSONObject.NULL)
        .put("prompt", prompt)
        .put("photo", photo.name)
        .put("photo_size", JSONArray(listOf(photo.original.first, photo.original.second)))

    private fun profile(bundle: Bundle): JSONObject {
        val phases = JSONObject()
        for ((name, samples) in phases(bundle)) {
            phases.put(
                name,
                JSONObject().put("median_ms", samples.median).put("low_ms", samples.low).put("high_ms", samples.high)
                    .put("samples_ms", JSONArray(samples.all)),
            )
        }
        return JSONObject()
            .put("name", bundle.name)
            .put("manifest", facts(bundle.manifest))
            .put("runtime", device.runtimes.entries.joinToString { "${it.key} ${it.value}" })
            .put("size_mib", bundle.manifest.sizeBytes / MIB)
            .put("phases", phases)
            .put("prefill_split", "One phase: the app does not trace what happens inside a graph.")
            .put("cold_cached_share", JSONObject.NULL)
            .put("memory", memory(all.filter { it.bundle === bundle }))
    }

    private fun facts(manifest: Manifest) = JSONObject()
        .put("model", manifest.model)
        .put("checkpoint", manifest.checkpoint)
        .put("target", manifest.target)
        .put("precision", manifest.precision)
        .put("quantization", manifest.quantization)
        .put("image", JSONArray(listOf(manifest.image.height, manifest.image.width)))
        .put("text_len", manifest.prompt.textLen)
        .put("layers", manifest.kv.layers.size)
        .put("pruner", manifest.pruner)
        .put("prune_layer", manifest.stages.first().index)
        .put("visual_tokens", manifest.image.visualTokens)
        .put("kept_tokens", manifest.numKept)
        .put(
            "stages",
            JSONArray(
                manifest.stages.map {
                    JSONObject().put("layer", it.index).put("pruner", it.pruner).put("kept_tokens", it.numKept)
                },
            ),
        )

    private fun memory(runs: List<Run>): JSONObject = JSONObject()
        .put("libraries_pss_mib", JSONObject.NULL)
        .put("libraries_rss_mib", runs.first().memoryBefore)
        .put("loaded_pss_mib", JSONObject.NULL)
        .put("loaded_rss_mib", runs.maxOf { it.memoryLoaded })
        .put("ran_pss_mib", JSONObject.NULL)
        .put("ran_rss_mib", runs.maxOf { it.memoryAfter })
        .put("peak_rss_mib", maxOf(device.peak(), runs.maxOf { it.memoryAfter }))

    private fun warnings() = buildList {
        if (bundles.size > 1) add("Memory is that of one process, which ran all bundles: its peak is that of the largest.")
        add("Times are those of a phone with its screen on.")
        val shortest = all.mapNotNull { it.answer?.tokens?.size }.minOrNull() ?: 0
        if (shortest < tokens) add("Answers ended by themselves, the shortest after $shortest of $tokens tokens.")
        val hot = all.flatMap { listOf(it.hotBefore, it.hotAfter) }.filterNotNull().filter { it != "none" }.distinct()
        if (hot.isNotEmpty()) add("The phone was hot: ${hot.joinToString()}.")
    }

    private fun condition(run: Run): JSONObject = JSONObject()
        .put("round", run.round)
        .put("bundle", bundles.indexOf(run.bundle))
        .put("waited_s", 0)
        .put("before", JSONObject().put("thermal_status", run.hotBefore ?: JSONObject.NULL))
        .put("after", JSONObject().put("thermal_status", run.hotAfter ?: JSONObject.NULL))

    private companion object {
        const val MIB = 1048576.0
    }
}
