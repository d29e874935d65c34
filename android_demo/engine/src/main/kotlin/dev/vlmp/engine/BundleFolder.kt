package dev.vlmp.engine

import dev.vlmp.engine.BadBundle.Kind
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.security.MessageDigest

private const val MANIFEST_NAME = "manifest.json"
private const val MOST_MANIFEST_BYTES = 1L shl 26
private const val MOST_TOKENIZER_BYTES = 1L shl 28

/**
 * Reads the manifest of a bundle and checks its files: each is there, of its size and, with [checkHashes], its sha256.
 *
 * [onProgress] gets bytes hashed so far and all of them. Raises [BadBundle], whose message is one line.
 */
fun readBundle(folder: File, checkHashes: Boolean = true, onProgress: (Long, Long) -> Unit = { _, _ -> }): Manifest {
    val manifest =
        parseManifest(
            readText(File(folder, MANIFEST_NAME), MOST_MANIFEST_BYTES, Kind.UNREADABLE),
            "${folder.name}/$MANIFEST_NAME",
        )
    for (spec in manifest.files) {
        val file = File(folder, spec.path)
        if (!file.isFile) {
            throw BadBundle(Kind.MISSING, "${folder.name}: ${quoted(spec.path)} is missing: copy the bundle again")
        }
        if (file.length() != spec.sizeBytes) {
            throw BadBundle(
                Kind.SIZE,
                "${folder.name}: ${quoted(spec.path)} has ${file.length()} bytes, " +
                    "the manifest says ${spec.sizeBytes}: copy the bundle again",
            )
        }
    }
    if (!checkHashes) return manifest
    var done = 0L
    for (spec in manifest.files) {
        val found =
            try {
                sha256(File(folder, spec.path)) {
                    done += it
                    onProgress(done, manifest.sizeBytes)
                }
            } catch (error: IOException) {
                throw BadBundle(
                    Kind.UNREADABLE,
                    "${folder.name}: ${quoted(spec.path)} cannot be read: ${oneLine(error)}",
                    error,
                )
            }
        if (found != spec.sha256) {
            throw BadBundle(
                Kind.HASH,
                "${folder.name}: ${quoted(spec.path)} is damaged (sha256 differs): copy the bundle again",
            )
        }
    }
    return manifest
}

/** The tokenizer of a bundle. Raises [BadBundle]. */
internal fun readTokenizer(folder: File, manifest: Manifest): Tokenizer {
    val path = manifest.prompt.tokenizerFile
    return Tokenizer.parse(readText(File(folder, path), MOST_TOKENIZER_BYTES, Kind.TOKENIZER), "${folder.name}/$path")
}

private fun readText(file: File, mostBytes: Long, kind: Kind): String {
    val name = "${file.absoluteFile.parentFile?.name}/${file.name}"
    if (!file.isFile) throw BadBundle(kind, "$name does not exist: is this the folder of a bundle?")
    if (file.length() > mostBytes) throw BadBundle(kind, "$name is too large: ${file.length()} bytes")
    try {
        return Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(file.readBytes())).toString()
    } catch (error: CharacterCodingException) {
        throw BadBundle(kind, "$name is not UTF-8", error)
    } catch (error: IOException) {
        throw BadBundle(kind, "$name cannot be read: ${oneLine(error)}", error)
    }
}

private fun sha256(file: File, onBytes: (Int) -> Unit): String {
    val digest = MessageDigest.getInstance("SHA-256")
    val block = ByteArray(1 shl 20)
    file.inputStream().use { stream ->
        while (true) {
            val count = stream.read(block)
            if (count < 0) break
            digest.update(block, 0, count)
            onBytes(count)
        }
    }
    return digest.digest().joinToString("") { byte ->
        HEX[byte.toInt() shr 4 and 15].toString() + HEX[byte.toInt() and 15]
    }
}

private const val HEX = "0123456789abcdef"
