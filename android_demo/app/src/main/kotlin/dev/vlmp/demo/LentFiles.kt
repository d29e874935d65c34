package dev.vlmp.demo

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import java.io.File
import java.io.FileNotFoundException

/** Lends files of the cache to apps that this one starts: the camera writes a photo, others read a benchmark. */
class LentFiles : ContentProvider() {
    override fun onCreate() = true

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor =
        ParcelFileDescriptor.open(file(uri), ParcelFileDescriptor.parseMode(mode))

    override fun getType(uri: Uri): String = if (uri.path.orEmpty().endsWith(".json")) "application/json" else "image/jpeg"

    override fun query(uri: Uri, columns: Array<String>?, where: String?, values: Array<String>?, order: String?): Cursor {
        val wanted = columns ?: arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE)
        return MatrixCursor(wanted).apply {
            addRow(
                wanted.map {
                    when (it) {
                        OpenableColumns.DISPLAY_NAME -> file(uri).name
                        OpenableColumns.SIZE -> file(uri).length()
                        else -> null
                    }
                },
            )
        }
    }

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun delete(uri: Uri, where: String?, values: Array<String>?) = 0

    override fun update(uri: Uri, values: ContentValues?, where: String?, arguments: Array<String>?) = 0

    private fun file(uri: Uri): File {
        val name = uri.pathSegments.singleOrNull() ?: throw FileNotFoundException("$uri")
        return File(folder(checkNotNull(context)), File(name).name)
    }

    companion object {
        fun folder(context: Context): File = File(context.cacheDir, "lent").apply { mkdirs() }

        fun uri(name: String): Uri = Uri.parse("content://dev.vlmp.demo.lent/$name")
    }
}
