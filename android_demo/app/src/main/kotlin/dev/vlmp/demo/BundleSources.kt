package dev.vlmp.demo

import android.content.ContentResolver
import android.content.res.AssetManager
import android.net.Uri
import android.provider.DocumentsContract
import android.provider.DocumentsContract.Document
import android.provider.OpenableColumns
import java.io.File
import java.io.InputStream
import java.util.zip.ZipInputStream

/** A bundle inside the APK. */
class AssetSource(private val assets: AssetManager, override val name: String) : BundleSource {
    override fun each(use: (String, InputStream) -> Boolean) {
        for (path in assets.list("$FOLDER/$name").orEmpty()) {
            if (!assets.open("$FOLDER/$name/$path").use { use(path, it) }) return
        }
    }

    companion object {
        const val FOLDER = "bundles"
    }
}

/** A folder that this app can read, as `adb push` leaves it. */
class FolderSource(private val folder: File) : BundleSource {
    override val name: String = folder.name

    override fun each(use: (String, InputStream) -> Boolean) {
        for (file in folder.walkTopDown().filter { it.isFile }) {
            if (!file.inputStream().use { use(file.relativeTo(folder).path, it) }) return
        }
    }
}

/** A folder that was chosen in the system's picker. */
class TreeSource(private val resolver: ContentResolver, private val tree: Uri) : BundleSource {
    override val name = DocumentsContract.getTreeDocumentId(tree).substringAfterLast(':').substringAfterLast('/')

    override fun each(use: (String, InputStream) -> Boolean) {
        visit(DocumentsContract.getTreeDocumentId(tree), "", use)
    }

    private fun visit(document: String, prefix: String, use: (String, InputStream) -> Boolean): Boolean {
        val children = ArrayList<Triple<String, String, Boolean>>()
        val columns = arrayOf(Document.COLUMN_DOCUMENT_ID, Document.COLUMN_DISPLAY_NAME, Document.COLUMN_MIME_TYPE)
        resolver.query(DocumentsContract.buildChildDocumentsUriUsingTree(tree, document), columns, null, null, null)?.use {
            while (it.moveToNext()) {
                children += Triple(it.getString(0), it.getString(1), it.getString(2) == Document.MIME_TYPE_DIR)
            }
        }
        return children.all { (id, name, folder) ->
            if (folder) {
                visit(id, "$prefix$name/", use)
            } else {
                open(resolver, DocumentsContract.buildDocumentUriUsingTree(tree, id)).use { use(prefix + name, it) }
            }
        }
    }
}

/** A zip archive that was chosen in the system's picker. The bundle may be in a folder inside it. */
class ZipSource(private val resolver: ContentResolver, private val archive: Uri) : BundleSource {
    override val name = displayName(resolver, archive).removeSuffix(".zip")
    private var folder = ""

    override fun each(use: (String, InputStream) -> Boolean) {
        ZipInputStream(open(resolver, archive).buffered()).use { zip ->
            while (true) {
                val entry = zip.nextEntry ?: return
                if (entry.isDirectory) continue
                val path = entry.name
                // The manifest tells which folder is the bundle's; it is looked for in a pass of its own.
                if (path.endsWith("/${MANIFEST_NAME}")) folder = path.removeSuffix(MANIFEST_NAME)
                if (path.startsWith(folder) && !use(path.removePrefix(folder), zip)) return
            }
        }
    }
}

/** What a document is called, without a folder. */
fun displayName(resolver: ContentResolver, uri: Uri): String {
    val told = resolver.query(uri, arrayOf(OpenableColumns.DISPLAY_NAME), null, null, null)?.use {
        if (it.moveToFirst()) it.getString(0) else null
    }
    return told ?: uri.lastPathSegment?.substringAfterLast('/') ?: "document"
}

private fun open(resolver: ContentResolver, uri: Uri): InputStream =
    resolver.openInputStream(uri) ?: throw Refused(R.string.not_opened, uri)
