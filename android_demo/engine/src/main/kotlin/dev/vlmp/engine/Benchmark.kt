package dev.vlmp.engine

import com.google.gson.stream.JsonWriter
import java.io.File
import java.io.StringWriter

/** What a phone tells of itself. [facts]: battery, power saving, and the like. */
class Machine(
    val name: String,
    val os: String,
    val cpu: String,
    val cores: Int,
    val memoryMib: Double,
    val facts: Map<String, String> = emptyMap(),
)

/** Memory of this process at a moment, and the most that it ever had. */
class Memory(val residentMib: Double, val peakMib: Double)

/** How hot it is at a moment. [thermalStatus]: Android's word in small letters, null where it does not say. */
class Condition(val thermalStatus: String? = null, val batteryC: Double? = null)

/**
 * [runs]: timed runs of each bundle. [decodeTokens]: tokens after the first, whatever they are. [photo]: a file's name.
 */
class BenchmarkSettings(val runs: Int, val decodeTokens: Int, val threads: Int?, val prompt: String, val photo: String)

/**
 * Times bundles in turns, so that a phone that grows hot slows all of them alike: in each round each bundle is loaded,
 * asked once to warm it up, asked once more with a clock, and closed. Close an [Engine] first: it holds memory.
 *
 * [openers]: by a manifest's target. [condition] is asked before and after each run, [memory] also in between, null
 * where nobody knows. [freeMemory]: bytes that a bundle may take. [now]: the time as ISO 8601, in UTC. [clock]:
 * nanoseconds.
 */
class Benchmark(
    private val openers: Map<String, RuntimeOpener>,
    private val machine: Machine,
    private val condition: () -> Condition,
    private val now: () -> String,
    private val memory: () -> Memory? = { null },
    private val freeMemory: () -> Long? = { null },
    private val clock: () -> Long = System::nanoTime,
) {
    /**
     * Measures. [checkHashes] can be left out where they were compared already. [onProgress] gets runs that are done,
     * and all. [stop] ends it within a token: null comes back then.
     *
     * Returns JSON in the schema of `vlmp-profile`, which `--device android --import` reads. Raises what
     * [Engine.load] and [Chat.ask] raise.
     */
    fun run(
        folders: List<File>,
        picture: Picture,
        settings: BenchmarkSettings,
        checkHashes: Boolean = true,
        onProgress: (Int, Int) -> Unit = { _, _ -> },
        stop: Stop = Stop(),
    ): String? {
        require(settings.runs > 0 && settings.decodeTokens > 0 && folders.isNotEmpty()) {
            "at least one run, one token, one bundle"
        }
        val subjects = folders.map { Subject(it, readBundle(it, checkHashes)) }
        for (subject in subjects) {
            val most = subject.manifest.prompt.maxNewTokens
            if (settings.decodeTokens > most) {
                throw BadTurn(
                    BadTurn.Kind.LIMIT,
                    "${subject.folder.name} has room for $most tokens after the question.",
                    most = most,
                )
            }
        }
        val conditions = ArrayList<RunCondition>()
        try {
            for (round in 1..settings.runs) {
                for ((number, subject) in subjects.withIndex()) {
                    stop.check()
                    val before = condition()
                    subject.measure(picture, settings, stop)
                    conditions += RunCondition(round, number, before, condition())
                    onProgress(conditions.size, settings.runs * subjects.size)
                }
            }
        } catch (_: Stopped) {
            return null
        }
        return Writer(subjects, conditions, picture, settings).json()
    }

    /** Before loading, loaded, and after both questions. */
    private class RunMemory(val before: Memory, val loaded: Memory, val ran: Memory)

    private class RunCondition(val round: Int, val bundle: Int, val before: Condition, val after: Condition)

    private inner class Subject(val folder: File, val manifest: Manifest) {
        /** One a run, milliseconds; of decode, per token. */
        val samples =
            listOf("load_warm", "preprocess", "vision", "prefill", "decode", "first_token").associateWith {
                ArrayList<Double>()
            }
        val memories = ArrayList<RunMemory>()
        var runtimeName = ""
            private set

        fun measure(picture: Picture, settings: BenchmarkSettings, stop: Stop) {
            val opener = openers.fitting(folder, manifest, freeMemory())
            val before = memory()
            val start = clock()
            val tokenizer = readTokenizer(folder, manifest)
            Session(manifest, folder, opener, settings.threads).use { session ->
                add("load_warm", start)
                val loaded = memory()
                runtimeName = session.runtimeName
                val spec = manifest.prompt
                checkWords(settings.prompt)
                val ids =
                    encodePrompt(tokenizer, manifest, spec.first, settings.prompt, spec.textLen, controlTokens = false)
                turn(session, picture, ids, settings.decodeTokens, stop, timed = false)
                turn(session, picture, ids, settings.decodeTokens, stop, timed = true)
                val ran = memory()
                if (before != null && loaded != null && ran != null) memories += RunMemory(before, loaded, ran)
            }
        }

        private fun turn(
            session: Session,
            picture: Picture,
            ids: IntArray,
            decodeTokens: Int,
            stop: Stop,
            timed: Boolean,
        ) {
            val start = clock()
            val pixels = toPixels(picture, manifest.image)
            val fitted = clock()
            val seen = session.vision(pixels, stop)
            val known = clock()
            var logits = session.prefill(ids, seen, stop).logits
            val first = clock()
            repeat(decodeTokens) { logits = session.decode(Greedy.sample(logits), stop) }
            val end = clock()
            if (!timed) return
            for ((phase, ns) in
                listOf(
                    "preprocess" to fitted - start,
                    "vision" to known - fitted,
                    "prefill" to first - known,
                    "first_token" to first - start,
                )) {
                samples.getValue(phase) += ns / 1e6
            }
            samples.getValue("decode") += (end - first) / 1e6 / decodeTokens
        }

        private fun add(phase: String, start: Long) {
            samples.getValue(phase) += (clock() - start) / 1e6
        }
    }

    /** The form of runtimes/profile/profile.schema.json. */
    private inner class Writer(
        private val subjects: List<Subject>,
        private val conditions: List<RunCondition>,
        private val picture: Picture,
        private val settings: BenchmarkSettings,
    ) {
        private val text = StringWriter()
        private val json = JsonWriter(text)

        fun json(): String {
            thing {
                json.name("schema_version").value(1)
                json.name("created").value(now())
                json.name("command").value("")
                json.name("machine")
                thing { machine() }
                json.name("settings")
                thing { settings() }
                json.name("warnings").beginArray()
                for (warning in warnings()) json.value(warning)
                json.endArray()
                list("conditions", conditions) { condition(it) }
                list("bundles", subjects) { bundle(it) }
            }
            return text.toString()
        }

        private fun machine() {
            json.name("kind").value("android").name("name").value(machine.name).name("os").value(machine.os)
            json
                .name("cpu")
                .value(machine.cpu)
                .name("cores")
                .value(machine.cores)
                .name("memory_mib")
                .value(machine.memoryMib)
            json.name("runtimes")
            val runtimes =
                subjects.map { it.runtimeName.split(' ', limit = 2) }.associate { Pair(it.first(), it.last()) }
            thing { for ((name, version) in runtimes) json.name(name).value(version) }
            json.name("facts")
            thing { for ((name, fact) in machine.facts) json.name(name).value(fact) }
        }

        private fun settings() {
            json.name("runs").value(settings.runs).name("decode_tokens").value(settings.decodeTokens).name("threads")
            if (settings.threads == null) json.nullValue() else json.value(settings.threads)
            json.name("prompt").value(settings.prompt).name("photo").value(settings.photo)
            json.name("photo_size").beginArray().value(picture.width).value(picture.height).endArray()
        }

        private fun warnings(): List<String> {
            val warnings = ArrayList<String>()
            if (subjects.size > 1 && subjects.any { it.memories.isNotEmpty() }) {
                warnings += "Memory is that of one process, which ran all bundles: its peak is that of the largest."
            }
            val told = conditions.flatMap { listOf(it.before, it.after) }.mapNotNull { it.thermalStatus }.distinct()
            val hot = told.filter { it != "none" }
            if (hot.isNotEmpty()) warnings += "The phone was hot: ${hot.joinToString()}."
            return warnings
        }

        private fun condition(run: RunCondition) {
            json.name("round").value(run.round).name("bundle").value(run.bundle).name("waited_s").value(0)
            for ((name, condition) in listOf("before" to run.before, "after" to run.after)) {
                json.name(name)
                thing {
                    if (condition.thermalStatus != null) json.name("thermal_status").value(condition.thermalStatus)
                    if (condition.batteryC != null) json.name("battery_c").value(condition.batteryC)
                }
            }
        }

        private fun bundle(subject: Subject) {
            json.name("name").value(subject.folder.name).name("manifest")
            thing { manifest(subject.manifest) }
            json
                .name("runtime")
                .value(subject.runtimeName)
                .name("size_mib")
                .value(subject.manifest.sizeBytes / (1024.0 * 1024.0))
            json.name("phases")
            thing {
                for ((phase, samples) in subject.samples) {
                    json.name(phase)
                    thing { phase(samples) }
                }
            }
            json.name("prefill_split").value("not split: the app asks for no operator's time")
            json.name("cold_cached_share").nullValue().name("memory")
            if (subject.memories.isEmpty()) json.nullValue() else thing { memory(subject.memories) }
        }

        private fun memory(runs: List<RunMemory>) {
            json.name("libraries_pss_mib").nullValue().name("libraries_rss_mib").value(runs.first().before.residentMib)
            json.name("loaded_pss_mib").nullValue().name("loaded_rss_mib").value(runs.maxOf { it.loaded.residentMib })
            json.name("ran_pss_mib").nullValue().name("ran_rss_mib").value(runs.maxOf { it.ran.residentMib })
            json.name("peak_rss_mib").value(runs.maxOf { it.ran.peakMib })
        }

        private fun manifest(manifest: Manifest) {
            json
                .name("model")
                .value(manifest.model)
                .name("checkpoint")
                .value(manifest.checkpoint)
                .name("target")
                .value(manifest.target)
            json.name("precision").value(manifest.precision).name("quantization").value(manifest.quantization)
            json.name("image").beginArray().value(manifest.image.height).value(manifest.image.width).endArray()
            json.name("text_len").value(manifest.prompt.textLen).name("layers").value(manifest.kv.layers.size)
            json
                .name("pruner")
                .value(manifest.stages.joinToString("+") { it.pruner }.ifEmpty { "none" })
                .name("prune_layer")
                .value(manifest.pruneLayer)
            json.name("visual_tokens").value(manifest.image.visualTokens).name("kept_tokens").value(manifest.numKept)
            list("stages", manifest.stages) {
                json.name("place").value(if (it.inTower) "vision" else "layer").name("layer").value(it.index)
                json.name("pruner").value(it.pruner).name("kept_tokens").value(it.numKept)
            }
        }

        private fun phase(samples: List<Double>) {
            val (low, median, high) = quartiles(samples)
            json.name("median_ms").value(median).name("low_ms").value(low).name("high_ms").value(high)
            json.name("samples_ms").beginArray()
            for (sample in samples) json.value(sample)
            json.endArray()
        }

        private fun <Item> list(name: String, items: List<Item>, write: (Item) -> Unit) {
            json.name(name).beginArray()
            for (item in items) thing { write(item) }
            json.endArray()
        }

        private fun thing(write: () -> Unit) {
            json.beginObject()
            write()
            json.endObject()
        }
    }
}

/** Lower quartile, median and upper quartile, with a line drawn between neighbours. */
internal fun quartiles(samples: List<Double>): Triple<Double, Double, Double> {
    val sorted = samples.sorted()
    val at = { share: Double ->
        val place = share * (sorted.size - 1)
        val below = sorted[place.toInt()]
        below + (sorted[minOf(place.toInt() + 1, sorted.size - 1)] - below) * (place - place.toInt())
    }
    return Triple(at(0.25), at(0.5), at(0.75))
}
