package dev.vlmp.demo

import android.content.res.Configuration
import android.graphics.Bitmap
import android.graphics.Canvas
import android.net.Uri
import android.view.View
import java.io.File
import org.json.JSONArray
import org.json.JSONObject
import org.robolectric.RuntimeEnvironment
import org.robolectric.android.controller.ActivityController

val app get() = RuntimeEnvironment.getApplication() as TestApp

/** What the screen shows, as build/android/pictures/NAME.png. */
fun draw(activity: MainActivity, name: String): Bitmap {
    val view = activity.window.decorView
    val metrics = activity.resources.displayMetrics
    view.measure(
        View.MeasureSpec.makeMeasureSpec(metrics.widthPixels, View.MeasureSpec.EXACTLY),
        View.MeasureSpec.makeMeasureSpec(metrics.heightPixels, View.MeasureSpec.EXACTLY),
    )
    view.layout(0, 0, metrics.widthPixels, metrics.heightPixels)
    val bitmap = Bitmap.createBitmap(metrics.widthPixels, metrics.heightPixels, Bitmap.Config.ARGB_8888)
    view.draw(Canvas(bitmap))
    val file = File(System.getProperty("demo.pictures")!!, "$name.png")
    file.parentFile!!.mkdirs()
    file.outputStream().use { check(bitmap.compress(Bitmap.CompressFormat.PNG, 100, it)) }
    return bitmap
}

/** Turns the phone: Android makes the activity anew. */
fun ActivityController<MainActivity>.turn() {
    val turned = Configuration(get().resources.configuration)
    turned.orientation = Configuration.ORIENTATION_LANDSCAPE
    configurationChange(turned)
}

/** The repository's photo. */
fun photoUri(): Uri = Uri.fromFile(File(System.getProperty("demo.photo")!!))

fun bundleFolder(name: String) = File(System.getProperty("demo.bundles")!!, name)

/** tiny-pruned in a folder of its own, as if half of its tokens went through the vision tower and the others came back. */
fun stagedBundle(): File {
    val folder = File(app.cacheDir, "tiny-staged").also { bundleFolder("tiny-pruned").copyRecursively(it) }
    val file = File(folder, MANIFEST_NAME)
    val manifest = JSONObject(file.readText())
    val shape = manifest.getJSONArray("shapes").getJSONObject(0)
    val last = shape.getJSONArray("stages").getJSONObject(0)
    val tower = JSONObject(last.toString()).put("place", "vision").put("index", 2).put("num_kept", 72).put("form", "rebuilt")
    shape.put("stages", JSONArray(listOf(tower, last)))
    val vision = manifest.getJSONObject("methods").getJSONObject(shape.getJSONObject("methods").getString("vision"))
    val places = JSONObject().put("name", "places").put("dtype", "int32").put("shape", JSONArray(listOf(72)))
    vision.getJSONArray("outputs").put(places)
    file.writeText(manifest.toString())
    return folder
}

/** The line that is told, null without one. */
val Demo.said: String? get() = problem?.text(app.resources)

val Throwable.said: String get() = (this as? Refused)?.words?.text(app.resources) ?: message.orEmpty()

/** A text that is seen anywhere under a view. */
fun View.shows(text: String): Boolean = when {
    visibility != View.VISIBLE -> false
    this is android.view.ViewGroup -> (0 until childCount).any { getChildAt(it).shows(text) }
    this is android.widget.TextView -> text in this.text.toString()
    else -> false
}
