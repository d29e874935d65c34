package dev.vlmp.demo

import android.content.Intent
import android.os.Bundle as Saved
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TextView

/** The bundles on this phone: import, list, delete. */
class BundlesPage(private val activity: MainActivity, private val app: DemoApp) : Page {
    override val root: View = activity.part(R.id.page_bundles)
    private val demo = app.demo
    private val folder: Button = root.part(R.id.import_folder)
    private val zip: Button = root.part(R.id.import_zip)
    private val list: ViewGroup = root.part(R.id.bundles)

    init {
        folder.setOnClickListener { activity.start(Intent(Intent.ACTION_OPEN_DOCUMENT_TREE), MainActivity.FOLDER) }
        zip.setOnClickListener {
            val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("application/zip")
            activity.start(intent, MainActivity.ZIP)
        }
        root.part<Button>(R.id.import_cancel).setOnClickListener { demo.stop() }
    }

    override fun draw() {
        folder.isEnabled = demo.free
        zip.isEnabled = demo.free
        val running = demo.importing
        root.part<View>(R.id.importing).visible(running != null)
        if (running != null) {
            val percent = (running.done * 100 / running.total).toInt()
            root.part<TextView>(R.id.import_line).text =
                activity.getString(R.string.importing, running.what, percent)
            root.part<ProgressBar>(R.id.import_bar).progress = percent
        }
        val there = app.bundles
        val packed = app.packed().map { name ->
            source(name, R.string.in_apk) { demo.import(AssetSource(activity.assets, name)) }
        }
        val pushed = app.pushed().map { file ->
            source(file.name, R.string.in_folder) { demo.import(FolderSource(file)) { file.deleteRecursively() } }
        }
        val none = if (there.isEmpty()) listOf(Panel(activity.getString(R.string.no_bundles), null, null)) else emptyList()
        list.panels(none + there.map { panel(it) } + packed + pushed)
    }

    override fun save(saved: Saved) = Unit

    private fun panel(bundle: Bundle): Panel {
        val manifest = bundle.manifest
        val facts = activity.getString(
            R.string.bundle_facts, manifest.model, manifest.target, manifest.quantization, manifest.numKept,
            manifest.image.visualTokens, manifest.pruner, size(manifest.sizeBytes), size(manifest.cacheBytes),
        )
        val delete = activity.getString(R.string.delete_named, bundle.name)
        return Panel(
            bundle.name, null, facts, Press(activity.getString(R.string.delete), delete, demo.free) { askToDelete(activity, bundle.name) { demo.delete(bundle) } },
        )
    }

    private fun source(name: String, where: Int, act: () -> Unit): Panel {
        val import = activity.getString(R.string.import_named, name)
        return Panel(name, null, activity.getString(where), Press(activity.getString(R.string.import_one), import, demo.free, act))
    }
}
