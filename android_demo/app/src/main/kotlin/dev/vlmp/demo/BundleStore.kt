package dev.vlmp.demo

import dev.vlmp.engine.BadBundle
import dev.vlmp.engine.Manifest
import dev.vlmp.engine.parseManifest
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest

/** Where a bundle is imported from: a folder, an archive, the APK itself. */
interface BundleSource {
    /** What the bundle may be called. */
    val name: String

    /** Calls [use] with the path (from the manifest's folder) and content of each file, until it returns false. */
    fun each(use: (String, InputStream) -> Boolean)
}

class ImportCancelled : Exception()

/** The bundles in [folder]. A bundle is there whole, with the hashes of its manifest, or not at all. */
class BundleStore(private val folder: File) {
    init {
        folder.mkdirs()
        // What an import left whose process was ended.
        folder.listFiles { file -> file.name.startsWith(PART) }?.forEach { it.deleteRecursively() }
    }

    /** What [list] found last, null after a change. Pages ask for it whenever they are drawn. */
    @Volatile
    private var known: List<Bundle>? = null

    /** All of them, by name. One that cannot be read is left out. */
    fun list(): List<Bundle> = known ?: read().also { known = it }

    private fun read(): List<Bundle> = folder.listFiles { file -> !file.name.startsWith(".") }.orEmpty().sortedBy { it.name }
        .mapNotNull { file ->
            try {
                Bundle(file)
            } catch (_: IOException) {
                null
            } catch (_: BadBundle) {
                null
            }
        }

    fun delete(bundle: Bundle) {
        val going = File(folder, PART + bundle.name)
        if (bundle.folder.renameTo(going)) going.deleteRecursively() else bundle.folder.deleteRecursively()
        known = null
    }

    /**
     * Copies a bundle. [progress] gets bytes done and bytes in all, and answers whether to go on.
     * Throws [Refused], BadBundle, IOException when reading or writing fails, [ImportCancelled].
     */
    fun import(source: BundleSource, free: () -> Long = { folder.usableSpace }, progress: (Long, Long) -> Boolean): Bundle {
        val text = manifestOf(source)
        val manifest = parseManifest(text, MANIFEST_NAME)
        val room = free()
        if (manifest.sizeBytes + SPARE > room) {
            throw Refused(R.string.storage_full, mebibytes(manifest.sizeBytes + SPARE), mebibytes(room))
        }
        val name = freeName(source.name)
        val part = File(folder, PART + name)
        try {
            part.deleteRecursively()
            copy(source, manifest, part, progress)
            File(part, MANIFEST_NAME).writeText(text)
            if (!part.renameTo(File(folder, name))) throw Refused(R.string.not_renamed, name)
        } finally {
            part.deleteRecursively()
        }
        known = null
        return Bundle(File(folder, name))
    }

    private fun manifestOf(source: BundleSource): String {
        var found: String? = null
        source.each { path, content ->
            if (path == MANIFEST_NAME) found = String(content.readAtMost(MANIFEST_LIMIT), Charsets.UTF_8)
            found == null
        }
        return found ?: throw Refused(R.string.no_manifest, MANIFEST_NAME)
    }

    private fun copy(source: BundleSource, manifest: Manifest, part: File, progress: (Long, Long) -> Boolean) {
        val missing = manifest.files.associateByTo(LinkedHashMap()) { it.path }
        val block = ByteArray(1 shl 20)
        var done = 0L
        source.each { path, content ->
            val wanted = missing.remove(path)
            if (wanted != null) {
                val file = File(part, path)
                checkNotNull(file.parentFile).mkdirs()
                val digest = MessageDigest.getInstance("SHA-256")
                var size = 0L
                file.outputStream().use { output ->
                    while (size <= wanted.sizeBytes) {
                        val count = content.read(block)
                        if (count < 0) break
                        output.write(block, 0, count)
                        digest.update(block, 0, count)
                        size += count
                        done += count
                        if (!progress(done, manifest.sizeBytes)) throw ImportCancelled()
                    }
                    output.fd.sync()
                }
                if (size != wanted.sizeBytes) throw Refused(R.string.wrong_size, path)
                val sha256 = digest.digest().joinToString("") { "%02x".format(it) }
                if (sha256 != wanted.sha256) throw Refused(R.string.wrong_hash, path)
            }
            missing.isNotEmpty()
        }
        if (missing.isNotEmpty()) throw Refused(R.string.missing_file, missing.keys.first())
    }

    private fun freeName(wanted: String): String {
        val plain = wanted.replace(Regex("[^A-Za-z0-9._-]"), "-").trim('.', '-').take(60).ifEmpty { "bundle" }
        return generateSequence(1) { it + 1 }.map { if (it == 1) plain else "$plain-$it" }.first { !File(folder, it).exists() }
    }

    private companion object {
        const val PART = ".part-"
        const val SPARE = 64L shl 20
        const val MANIFEST_LIMIT = 8 shl 20
    }
}

fun mebibytes(bytes: Long): String = "${(bytes + (1L shl 20) - 1) shr 20} MiB"

private fun InputStream.readAtMost(limit: Int): ByteArray {
    val output = java.io.ByteArrayOutputStream()
    val block = ByteArray(1 shl 16)
    while (true) {
        val count = read(block)
        if (count < 0) return output.toByteArray()
        output.write(block, 0, count)
        if (output.size() > limit) throw Refused(R.string.large_manifest, MANIFEST_NAME)
    }
}
