package dev.vlmp.demo

import android.net.Uri
import dev.vlmp.engine.Answer
import dev.vlmp.engine.End
import dev.vlmp.engine.Timings
import java.io.File
import java.io.IOException
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** What the pages show, apart from what is typed and chosen on them. [asked]: the bundle that [turns] are with. */
class Shown(val photo: Uri?, val asked: Bundle?, val turns: List<Turn>, val compared: List<Compared>)

/** Keeps it in a file: an answer may end, and Android the process after it, when no activity is there to save it. */
class ShownFile(private val file: File) {
    fun save(demo: Demo) {
        val turns = demo.turns.map {
            JSONObject().put("question", it.question).put("text", it.text).put("answer", it.answer?.let { told -> json(told) })
        }
        val compared = demo.compared.map { JSONObject().put("bundle", it.bundle.name).put("answer", json(it.answer)) }
        val all = JSONObject().put("photo", demo.photoUri?.toString()).put("asked", demo.asked?.name)
            .put("turns", JSONArray(turns)).put("compared", JSONArray(compared))
        val part = File(file.path + ".part")
        try {
            part.writeText(all.toString())
            part.renameTo(file)
        } catch (_: IOException) {
            part.delete() // a full phone: what was saved before stays
        }
    }

    /** What was saved last, null where nothing was. Comparisons with a bundle that is gone are left out. */
    fun read(bundles: List<Bundle>): Shown? = try {
        val all = JSONObject(file.readText())
        val turns = objects(all.getJSONArray("turns")).map { turn ->
            Turn(turn.getString("question")).apply {
                text = turn.getString("text")
                answer = turn.optJSONObject("answer")?.let { answer(it) }
            }
        }
        val compared = objects(all.getJSONArray("compared")).mapNotNull {
            bundles.named(it.getString("bundle"))?.let { bundle -> Compared(bundle, answer(it.getJSONObject("answer"))) }
        }
        val photo = if (all.has("photo")) Uri.parse(all.getString("photo")) else null
        Shown(photo, bundles.named(all.optString("asked")), turns, compared)
    } catch (_: IOException) {
        null
    } catch (_: JSONException) {
        null
    }

    private fun json(answer: Answer) = JSONObject().put("text", answer.text).put("tokens", JSONArray(answer.tokens))
        .put("end", answer.end.name).put("stages", JSONArray(answer.stages.map { JSONArray(it.toList()) }))
        .put("order", JSONArray(answer.order.toList()))
        .put("preprocess_ms", answer.timings.preprocessMs).put("vision_ms", answer.timings.visionMs)
        .put("prefill_ms", answer.timings.prefillMs).put("decode_ms", JSONArray(answer.timings.decodeMs))

    private fun answer(told: JSONObject): Answer {
        val stages = told.getJSONArray("stages").let { all -> List(all.length()) { ints(all.getJSONArray(it)) } }
        val decode = told.getJSONArray("decode_ms").let { all -> List(all.length()) { all.getDouble(it) } }
        val timings = Timings(told.getDouble("preprocess_ms"), told.getDouble("vision_ms"), told.getDouble("prefill_ms"), decode)
        val end = End.values().firstOrNull { it.name == told.getString("end") } ?: throw JSONException("no end")
        val tokens = ints(told.getJSONArray("tokens")).toList()
        return Answer(told.getString("text"), tokens, end, stages, ints(told.getJSONArray("order")), timings)
    }
}

private fun ints(array: JSONArray) = IntArray(array.length()) { array.getInt(it) }
