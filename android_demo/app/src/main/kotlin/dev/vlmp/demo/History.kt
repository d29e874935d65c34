package dev.vlmp.demo

import java.io.File
import java.io.IOException
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** A saved benchmark: a file in the schema of vlmp-profile. Throws JSONException where it is none. */
class Measured(val file: File) {
    private val profile = JSONObject(file.readText())
    private val settings = profile.getJSONObject("settings")

    /** When it was made, to the minute. */
    val time = profile.getString("created").take(16).replace('T', ' ') + " UTC"
    val photo: String = settings.getString("photo")
    val runs = settings.getInt("runs")
    val bundles = objects(profile.getJSONArray("bundles")).map { MeasuredBundle(it) }

    /** Android's words for how hot the phone was, in the order in which they came; none where it does not tell. */
    val heat: List<String> = objects(profile.getJSONArray("conditions"))
        .flatMap { listOf(it.getJSONObject("before"), it.getJSONObject("after")) }
        .map { it.optString("thermal_status") }.filter { it.isNotEmpty() }.distinct()
}

/** Figures of one bundle, in milliseconds and MiB. */
class MeasuredBundle(profile: JSONObject) {
    val name: String = profile.getString("name")
    val phases = profile.getJSONObject("phases").let { all ->
        all.keys().asSequence().map { Phase(it, all.getJSONObject(it)) }.toList()
    }
    val peak = profile.getJSONObject("memory").getDouble("peak_rss_mib")

    class Phase(val name: String, figures: JSONObject) {
        val median = figures.getDouble("median_ms")
        val low = figures.getDouble("low_ms")
        val high = figures.getDouble("high_ms")
    }
}

/** The benchmarks in [folder]. */
class History(private val folder: File) {
    /** What [list] found last, null after a change. Pages ask for it whenever they are drawn. */
    @Volatile
    private var known: List<Measured>? = null

    /** The newest first. A file that cannot be read is left out. */
    fun list(): List<Measured> = known ?: read().also { known = it }

    private fun read() = folder.listFiles { file -> file.name.endsWith(".json") }.orEmpty().sortedByDescending { it.name }
        .mapNotNull { file ->
            try {
                Measured(file)
            } catch (_: JSONException) {
                null
            } catch (_: IOException) {
                null
            }
        }

    /** Saves a profile under the time at which it was made. The file is there whole or not at all. Throws [Refused]. */
    fun save(profile: String) {
        folder.mkdirs()
        val created = JSONObject(profile).getString("created").replace(":", "")
        val part = File(folder, "part").apply { writeText(profile) }
        if (!part.renameTo(File(folder, "vlmp-benchmark-$created.json"))) throw Refused(R.string.benchmark_not_saved)
        known = null
    }

    fun delete(measured: Measured) {
        measured.file.delete()
        known = null
    }
}

internal fun objects(array: JSONArray) = List(array.length()) { array.getJSONObject(it) }
