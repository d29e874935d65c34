package dev.vlmp.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.RectF
import android.util.AttributeSet
import android.view.View
import dev.vlmp.engine.Manifest
import dev.vlmp.engine.SegmentSpec
import dev.vlmp.engine.placement

/**
 * A photo, and over it which visual tokens the model still sees: all others are dark. Where the order of selection is
 * known, the first [shown] tokens count, each with its number.
 */
class KeptView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private var photo: Photo? = null
    private var manifest: Manifest? = null
    private var tokens = IntArray(0)
    private var numbered = false
    private val dark = Paint().apply { color = context.getColor(R.color.discarded) }
    private val frame = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = context.getColor(R.color.kept)
        style = Paint.Style.STROKE
    }
    private val number = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = context.getColor(R.color.kept)
        textAlign = Paint.Align.CENTER
        isFakeBoldText = true
    }
    private val smooth = Paint(Paint.FILTER_BITMAP_FLAG)

    /** Shows [tokens] of the photo as kept; with a null manifest the photo alone. */
    fun show(photo: Photo?, manifest: Manifest?, tokens: IntArray, numbered: Boolean) {
        if (photo?.original != this.photo?.original) requestLayout()
        this.photo = photo
        this.manifest = manifest
        this.tokens = tokens
        this.numbered = numbered
        contentDescription = when {
            photo == null -> null
            manifest == null -> context.getString(R.string.photo_plain, photo.name)
            else -> context.getString(R.string.photo_kept, photo.name, tokens.size, manifest.image.visualTokens)
        }
        invalidate()
    }

    override fun onMeasure(widthSpec: Int, heightSpec: Int) {
        val width = MeasureSpec.getSize(widthSpec)
        val preview = photo?.preview
        val most = resources.displayMetrics.heightPixels * 3 / 5
        val height = if (preview == null) 0 else minOf(width * preview.height / preview.width, most)
        setMeasuredDimension(width, height)
    }

    override fun onDraw(canvas: Canvas) {
        val preview = photo?.preview ?: return
        val scale = minOf(width.toFloat() / preview.width, height.toFloat() / preview.height)
        val left = (width - preview.width * scale) / 2
        val top = (height - preview.height * scale) / 2
        val whole = RectF(left, top, left + preview.width * scale, top + preview.height * scale)
        canvas.drawBitmap(preview, null, whole, smooth)
        val manifest = manifest ?: return
        canvas.save()
        canvas.clipRect(whole)
        val place = tokens.withIndex().associate { (index, token) -> token to index + 1 }
        for (segment in manifest.image.segments) {
            for (row in 0 until segment.rows) {
                for (column in 0 until segment.columns) {
                    val cell = onPhoto(cell(segment, row, column), manifest, whole)
                    val order = place[segment.first + row * segment.stride + column]
                    if (order == null) canvas.drawRect(cell, dark) else mark(canvas, cell, order)
                }
            }
        }
        canvas.restore()
    }

    private fun mark(canvas: Canvas, cell: RectF, order: Int) {
        frame.strokeWidth = maxOf(2f, cell.width() / 16)
        canvas.drawRect(cell, frame)
        if (!numbered || cell.width() < 12) return
        number.textSize = cell.height() * 0.5f
        number.setShadowLayer(cell.height() * 0.1f, 0f, 0f, 0xFF000000.toInt())
        canvas.drawText("$order", cell.centerX(), cell.centerY() + number.textSize * 0.36f, number)
    }

    /** How many of the tokens that are shown lie on what the photo was padded with. */
    fun onPadding(): Int {
        val manifest = manifest ?: return 0
        val photo = RectF(0f, 0f, checkNotNull(photo).picture.width.toFloat(), checkNotNull(photo).picture.height.toFloat())
        return tokens.count { token ->
            manifest.image.segments.all { segment ->
                val (row, column) = segment.cell(token) ?: return@all true
                !RectF.intersects(photo, onPhoto(cell(segment, row, column), manifest, photo))
            }
        }
    }

    /** A token's place in the fitted picture, in pixels of it. */
    private fun cell(segment: SegmentSpec, row: Int, column: Int): RectF {
        val width = (segment.box[2] - segment.box[0]).toFloat() / segment.columns
        val height = (segment.box[3] - segment.box[1]).toFloat() / segment.rows
        val left = segment.box[0] + column * width
        val top = segment.box[1] + row * height
        return RectF(left, top, left + width, top + height)
    }

    /** From the fitted picture to the view. A padded photo is in the middle of the picture, a stretched one fills it. */
    private fun onPhoto(cell: RectF, manifest: Manifest, whole: RectF): RectF {
        val photo = checkNotNull(photo).picture
        val place = placement(photo.width, photo.height, manifest.image)
        val (scaleX, scaleY) = Pair(whole.width() / place.width, whole.height() / place.height)
        val (left, top) = Pair(whole.left - place.left * scaleX, whole.top - place.top * scaleY)
        return RectF(
            left + cell.left * scaleX, top + cell.top * scaleY, left + cell.right * scaleX, top + cell.bottom * scaleY,
        )
    }
}
